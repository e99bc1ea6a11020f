"""Ranks whose processes find this on their path give up a silent one soon, not after 20 seconds.

A rank that waits keeps two cores busy.
"""

import sys

if "mlxft.engine" in sys.orig_argv:
    from mlxft.engine import rank

    rank.SILENCE_SECONDS = 6.0
