"""The terminal: input, output, signals and the link to it."""
