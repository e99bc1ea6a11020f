"""The dialog to choose a model: those here and on the hub, with what they need."""
