"""Progress in words, with an estimate of the time left."""

from __future__ import annotations

import unicodedata
from collections import deque
from itertools import pairwise

from mlxft.runs.events import ProgressMade
from mlxft.text import figures
from mlxft.text.printable import printable_line

_MIN_SECONDS = 1.0
"""Time from which the rate is meaningful."""

_MOVES = 50
"""Latest moves that the rate is computed from."""

_STALL_FACTOR = 6
"""A move that took this many times as long as any other was interrupted, as by a pause."""


def sample_so_far(progress: ProgressMade | None, width: int) -> str:
    """The end of the text of a sample that is being generated, in so many cells."""
    if progress is None or progress.stage != "sampling":
        return ""
    shown = ""
    for character in reversed(printable_line(progress.note)):
        width -= 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if width < 0:
            break
        shown = character + shown
    return shown


class Progress:
    """Follows one stage after another; time left is estimated from the current stage's rate."""

    def __init__(self) -> None:
        self._latest: ProgressMade | None = None
        self._moves: deque[tuple[int, float]] = deque(maxlen=_MOVES)
        """How much was done, and when that was first seen."""

    def describe(self, progress: ProgressMade, now: float) -> str:
        """Stage, share done and time left; `now` is seconds of any one clock."""
        if not self._continues(progress):
            self._moves.clear()
        if not self._moves or progress.done > self._moves[-1][0]:
            self._moves.append((progress.done, now))
        self._latest = progress
        words: list[str] = [progress.stage]
        if progress.total:
            words.append(f"{min(1.0, progress.done / progress.total):.0%}")
            left = self._seconds_left(progress.total)
            if left:
                words.append(f"{figures.duration(left)} left")
        return " ".join(words)

    def end(self) -> None:
        """Nothing is running; the next stage starts from zero, even if it has the same name."""
        self._latest = None

    def _continues(self, progress: ProgressMade) -> bool:
        latest = self._latest
        return (
            latest is not None
            and latest.stage == progress.stage
            and latest.total == progress.total
            and latest.done <= progress.done
        )

    def _seconds_left(self, total: int) -> float | None:
        """None until the rate is meaningful."""
        gaps = [later - before for (_, before), (_, later) in pairwise(self._moves)]
        if not gaps:
            return None
        *others, longest = sorted(gaps)
        elapsed = sum(others) + min(longest, _STALL_FACTOR * max(others, default=longest))
        if elapsed < _MIN_SECONDS:
            return None
        latest = self._moves[-1][0]
        return elapsed / (latest - self._moves[0][0]) * max(0, total - latest)


class Transfer:
    """Follows a download: bytes, rate and time left."""

    def __init__(self) -> None:
        self._progress = Progress()
        self._moves: deque[tuple[int, float]] = deque(maxlen=_MOVES)

    def describe(self, progress: ProgressMade, now: float) -> str:
        """Bytes of how many, how fast, and time left; `now` is seconds of any one clock."""
        if progress.stage == "waiting":
            return "waiting for another download of this model"
        if self._moves and progress.done < self._moves[-1][0]:
            self._moves.clear()
        self._moves.append((progress.done, now))
        total = f" of {figures.size(progress.total)}" if progress.total else ""
        words = [f"{progress.stage} {figures.size(progress.done)}{total}"]
        (before, since), (done, until) = self._moves[0], self._moves[-1]
        if until - since >= _MIN_SECONDS and done > before:
            words.append(f"{figures.size((done - before) / (until - since))}/s")
        if left := self._progress.describe(progress, now).partition("% ")[2]:
            words.append(left)
        return ", ".join(words)
