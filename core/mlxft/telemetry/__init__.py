"""The machine's state: one Sample type, one module per source."""
