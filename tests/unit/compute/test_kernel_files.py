"""Kernels that a killed process has left half written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def _write(kernel: Path, *suffixes: str) -> None:
    kernel.parent.mkdir(parents=True, exist_ok=True)
    kernel.write_text("compiled")
    for suffix in suffixes:
        kernel.with_suffix(suffix).write_text("gather\t_Z6gather")


def test_a_process_begins_without_torn_kernels(tmp_path: Path) -> None:
    whole = [tmp_path / "gather.ptx", tmp_path / "long name" / "copy.ptx"]
    torn = [tmp_path / "scatter.ptx", tmp_path / "long name" / "sum.ptx", tmp_path / "cast.ptx"]
    for kernel in whole:
        _write(kernel, ".txt", ".cu")
    _write(torn[0])
    _write(torn[1], ".txt")
    _write(torn[2], ".cu")
    torn[2].with_suffix(".txt").touch()
    environment = {**os.environ, "MLX_PTX_CACHE_DIR": str(tmp_path)}
    code = "import mlxft.compute.backend"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert sorted(tmp_path.rglob("*.ptx")) == sorted(whole)
