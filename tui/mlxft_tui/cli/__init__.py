"""The command line; it imports no Textual."""
