"""How far something long has come, in words, with an estimate of the rest."""

from __future__ import annotations

from mlxft.runs.events import ProgressMade
from mlxft_tui import figures

_MIN_SECONDS = 1.0
"""Below this the rate says nothing yet."""


class Progress:
    """Follows one stage after the other; the rest is estimated from the present stage's rate."""

    def __init__(self) -> None:
        self._first: tuple[ProgressMade, float] | None = None

    def describe(self, progress: ProgressMade, now: float) -> str:
        """The stage, its share and the time left; `now` is seconds of any one clock."""
        if self._first is None or not _continues(self._first[0], progress):
            self._first = (progress, now)
        first, since = self._first
        words: list[str] = [progress.stage]
        if progress.total:
            words.append(f"{min(1.0, progress.done / progress.total):.0%}")
            done, elapsed = progress.done - first.done, now - since
            if 0 < done < progress.total - first.done and elapsed >= _MIN_SECONDS:
                left = elapsed / done * (progress.total - progress.done)
                words.append(f"{figures.duration(left)} left")
        return " ".join(words)


def _continues(first: ProgressMade, progress: ProgressMade) -> bool:
    return (
        first.stage == progress.stage
        and first.total == progress.total
        and first.done <= progress.done
    )
