"""Everything that touches an array; the only room that imports mlx and mlx_lm."""
