"""The command line, without Textual."""
