"""A machine that decides about compiled steps as one with a new NVIDIA GPU does."""

from __future__ import annotations

import os
from pathlib import Path

_SITE = """
import importlib.abc, importlib.util, sys

class OfCuda(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "mlxft.compute.training.choices":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def loaded(module):
            load(module)
            decided = module._compiled
            module._compiled = lambda recipe, loaded, on: decided(recipe, loaded, "cuda")

        spec.loader.exec_module = loaded
        return spec

sys.meta_path.insert(0, OfCuda())
"""


def write_new_gpu(folder: Path) -> dict[str, str]:
    """The environment in which engines decide so, with an empty folder for their kernels."""
    for name in ("site", "ptx"):
        (folder / name).mkdir(parents=True)
    (folder / "site" / "sitecustomize.py").write_text(_SITE)
    path = os.pathsep.join((str(folder / "site"), os.environ.get("PYTHONPATH", "")))
    return {"PYTHONPATH": path, "MLX_PTX_CACHE_DIR": str(folder / "ptx")}
