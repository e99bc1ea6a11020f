"""What all screens share: the base screen, its bars, and the general dialogs."""
