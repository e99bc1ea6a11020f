"""Runs that wait for their turn, and the process that starts one after the other."""
