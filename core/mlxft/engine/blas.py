"""The environment in which MLX on a Linux CPU finds a fast BLAS.

The mlx-cpu wheel is linked against the reference BLAS. The `cpu` extra brings an OpenBLAS that
needs the Fortran runtime under its system name, which the same wheel carries under another name.
A folder of links gives each its expected name; the loader finds it by ``LD_LIBRARY_PATH``, which
is read only when a process starts.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

_SYSTEM_NAMES = {"libgfortran-": "libgfortran.so.5", "libquadmath-": "libquadmath.so.0"}


def blas_environment(cache: Path, search: Iterable[str] | None = None) -> dict[str, str]:
    """Environment variables for a child process that loads MLX; empty where none are needed.

    `search` are the folders to look for packages in, by default ``sys.path``.
    """
    if sys.platform != "linux":
        return {}
    folders = [Path(each) for each in (sys.path if search is None else search)]
    bundled = next((path for each in folders if (path := each / "mlx_cpu.libs").is_dir()), None)
    if bundled is None:
        return {}
    links = _link_folder(cache / "blas", _links(bundled))
    if links is None:
        return {}
    inherited = os.environ.get("LD_LIBRARY_PATH")
    return {"LD_LIBRARY_PATH": f"{links}:{inherited}" if inherited else str(links)}


def _links(bundled: Path) -> dict[str, Path]:
    links = {path.name: path for path in sorted(bundled.iterdir())}
    for path in list(links.values()):
        for prefix, name in _SYSTEM_NAMES.items():
            if path.name.startswith(prefix):
                links[name] = path
    return links


def _link_folder(root: Path, links: dict[str, Path]) -> Path | None:
    """The folder with these links, created atomically; None if it can't be created."""
    content = "\n".join(f"{name} {target}" for name, target in sorted(links.items()))
    folder = root / hashlib.sha256(content.encode()).hexdigest()[:16]
    if folder.is_dir():
        return folder
    try:
        root.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=root))
        for name, target in links.items():
            (temporary / name).symlink_to(target)
        # Another process may have been faster; its folder is equal.
        with contextlib.suppress(FileExistsError, OSError):
            temporary.rename(folder)
        shutil.rmtree(temporary, ignore_errors=True)
    except OSError:
        return None
    return folder if folder.is_dir() else None
