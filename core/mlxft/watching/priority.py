"""The priority of processes beside a run."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def lower_priority(niceness: int) -> None:
    """Let this process wait for others, whatever session they are of."""
    with contextlib.suppress(OSError):
        os.nice(niceness)
    # Linux may schedule each session as a group, in which niceness only counts against processes
    # of the same session; this one has its own, and the engine another.
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(niceness))
