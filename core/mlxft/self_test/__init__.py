"""What a self-test measures, and what its figures mean: pure functions, without MLX."""
