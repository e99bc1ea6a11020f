"""The user's own keys at the start, without importing every screen to check them."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

import mlxft_tui
from mlxft.storage.atomic_files import write_atomically
from mlxft.storage.paths import cache_dir


def own_keys(file: Path) -> dict[str, str]:
    """The keymap of a keys.toml, checked once for each version of the file and the application.

    Raises `MlxftError` if it is wrong.
    """
    kept, state = cache_dir() / "keys.txt", _state(file)
    with contextlib.suppress(OSError, ValueError):
        checked, *entries = kept.read_text(encoding="utf-8").splitlines()
        if state and checked == state:
            return dict(entry.split("=", 1) for entry in entries)
    from mlxft_tui.keymap import load

    keys = load(file)
    lines = "".join(f"{line}\n" for line in (state, *map("=".join, keys.items())))
    with contextlib.suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(kept, lines.encode())
    return keys


def _state(file: Path) -> str:
    """Changes with the file and with every module that declares keys; empty if unreadable."""
    try:
        modules = sorted(Path(mlxft_tui.__path__[0]).rglob("*.py"))
        times = [each.stat().st_mtime_ns for each in modules]
        return hashlib.sha256(file.read_bytes() + repr(times).encode()).hexdigest()
    except OSError:
        return ""
