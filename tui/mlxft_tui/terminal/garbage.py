"""When Python looks for garbage: at rest, and never through what stays.

A search through all objects of a long conversation takes 50 ms, in which no key is seen.
"""

from __future__ import annotations

import gc


def settle(*, anew: bool = False) -> None:
    """Collect now, and leave what stays out of later searches.

    It searches what has come since the last time; `anew` all, since something large has gone.
    """
    if anew:
        gc.unfreeze()
    gc.collect()
    gc.freeze()
