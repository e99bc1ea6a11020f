"""The run directory and what is read out of it: events, journal, view, history."""
