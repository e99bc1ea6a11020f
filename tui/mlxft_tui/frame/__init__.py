"""Shared by all screens: the base screen, its bars and the general dialogs."""
