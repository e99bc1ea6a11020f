"""Garbage collection while idle, and never of long-lived objects.

A full collection of a long conversation takes 50 ms, during which no key is handled.
"""

from __future__ import annotations

import gc
from typing import Final

YOUNG_COLLECTIONS: Final = 1000
"""Collections of young objects before a full one comes even without an idle moment."""


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
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, YOUNG_COLLECTIONS)
    gc.enable()


def collect() -> None:
    """Collect what has become garbage since `settle`, in an idle moment."""
    gc.collect()
