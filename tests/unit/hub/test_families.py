"""Other names of model families, read without importing mlx-lm."""

from __future__ import annotations

from mlx_lm.utils import MODEL_REMAPPING

from mlxft.hub.families import refused_family


def test_every_other_name_of_mlx_lm_is_known() -> None:
    assert MODEL_REMAPPING
    unknown = {name for name in MODEL_REMAPPING if "know" in refused_family({"model_type": name})}
    assert unknown == set()
