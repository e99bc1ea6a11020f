"""Why a run is held back before its first step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mlxft.text import figures

NAMED: Final = 3
"""Programs that are named."""

SMALLEST: Final = 200_000_000
"""Bytes of a program that is worth closing."""


def would_swap(needed: int, available: int, programs: Mapping[str, int]) -> str | None:
    """Why a Mac would swap during a run, with what to close; None if it wouldn't.

    `needed` are the bytes of the whole run, `available` those that other programs leave to it,
    `programs` the bytes of applications.
    """
    if needed <= available:
        return None
    by_size = sorted(programs.items(), key=lambda each: -each[1])
    large = [f"{name} ({figures.size(size)})" for name, size in by_size if size >= SMALLEST]
    close = f"close {', '.join(large[:NAMED])}" if large else "close programs"
    return (
        f"The run needs {figures.size(needed)} and other programs leave "
        f"{figures.size(max(0, available))}, so macOS would swap and steps would be far slower; "
        f"{close}, train with less memory (mlxft-tui estimate), or set may_swap to true."
    )
