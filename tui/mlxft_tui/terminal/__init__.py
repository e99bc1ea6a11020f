"""The terminal: input, output, signals and connection."""
