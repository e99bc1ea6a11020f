"""Saved adapters as files, of this project, mlx-lm or PEFT; without MLX."""
