"""Everything that touches an array; the only package that imports mlx and mlx_lm."""

# First, before anything imports mlx: it decides which BLAS mlx uses.
from mlxft.compute import backend as backend
