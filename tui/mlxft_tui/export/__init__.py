"""The dialogs of an export: what to write, and what was measured of it."""
