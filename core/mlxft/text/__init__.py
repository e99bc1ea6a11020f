"""How numbers, paths and text from elsewhere are shown."""
