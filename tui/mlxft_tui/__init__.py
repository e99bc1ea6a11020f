"""The terminal application over the mlxft core."""
