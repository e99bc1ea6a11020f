"""What the machine is doing: one Sample type, one module for each source."""
