"""Everything that touches an array; the only room that imports mlx and mlx_lm."""

# Before anything else here imports mlx: it decides which BLAS mlx will call.
from mlxft.compute import backend as backend
