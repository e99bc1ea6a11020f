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

from mlxft.errors import StorageError
from mlxft.storage.paths import cache_dir, runtime_dir

_SYSTEM_NAMES = {"libgfortran-": "libgfortran.so.5", "libquadmath-": "libquadmath.so.0"}


def blas_environment(search: Iterable[str] | None = None) -> dict[str, str]:
    """Environment variables for a child process that loads MLX; empty where none are needed.

    `search` are the folders to look for packages in, by default ``sys.path``. The links are kept in
    the cache, or in the private folder of the sockets where the cache can't be written.
    """
    if sys.platform != "linux":
        return {}
    folders = [Path(each) for each in (sys.path if search is None else search)]
    bundled = next((path for each in folders if (path := each / "mlx_cpu.libs").is_dir()), None)
    if bundled is None:
        return {}
    wanted = _links(bundled)
    links = _link_folder(cache_dir(), wanted) or _temporary_link_folder(wanted)
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


def _temporary_link_folder(links: dict[str, Path]) -> Path | None:
    with contextlib.suppress(StorageError):
        return _link_folder(runtime_dir(), links)
    return None


def _link_folder(root: Path, links: dict[str, Path]) -> Path | None:
    """The folder with these links, created atomically; None if it can't be created."""
    content = "\n".join(f"{name} {target}" for name, target in sorted(links.items()))
    folder = root / "blas" / hashlib.sha256(content.encode()).hexdigest()[:16]
    try:
        if not folder.is_dir():
            _create(folder, links)
        # Files of a temporary folder may have been removed for their age.
        for name in links.keys() - set(os.listdir(folder)):
            with contextlib.suppress(FileExistsError):
                (folder / name).symlink_to(links[name])
    except OSError:
        return None
    return folder


def _create(folder: Path, links: dict[str, Path]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        for name, target in links.items():
            (temporary / name).symlink_to(target)
        # Another process may have been faster; its folder is equal.
        with contextlib.suppress(OSError):
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
