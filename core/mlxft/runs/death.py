"""Why an engine's process ended without an event, by the end of its log."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mlxft.errors import FailureCause
from mlxft.storage.regular_files import open_regular

_GPU_WATCHDOG: Final = ("Impacting Interactivity", "ImpactingInteractivity", "GPU Timeout")
"""Parts of Metal's errors when macOS ends GPU work; MLX may abort the process with them."""

_LAST: Final = 8192
"""Bytes of the log that are read."""


def cause_in(text: str) -> FailureCause | None:
    """The cause that an error's text names; None if it is another."""
    return "gpu_watchdog" if any(each in text for each in _GPU_WATCHDOG) else None


def cause_of_death(log: Path) -> FailureCause | None:
    """The cause at the end of an engine's log; None without a log."""
    try:
        with open_regular(log) as file:
            file.seek(max(0, log.stat().st_size - _LAST))
            return cause_in(file.read().decode(errors="replace"))
    except OSError:
        return None
