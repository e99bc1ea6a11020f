"""The self-test's measurements with MLX, each in a process of its own."""
