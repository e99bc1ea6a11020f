"""Garbage collection while idle, and never of long-lived objects.

A full collection of a long conversation takes 50 ms, during which no key is handled.
"""

from __future__ import annotations

import gc


def pause() -> None:
    """Don't collect until `settle`, which makes imports a tenth faster."""
    gc.disable()


def settle(*, full: bool = False) -> None:
    """Collect now and exclude the survivors from later collections.

    `full` includes the survivors of earlier calls, for when something large was dropped.
    """
    if full:
        gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.enable()
