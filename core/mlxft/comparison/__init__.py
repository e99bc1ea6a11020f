"""Runs beside each other: one table of all, filtered, sorted, compared and reported."""
