"""When the parts of the Train screen are redrawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mlxft.runs.events import AnyEvent, TrainReported

TICK_SECONDS = 1.0
"""Time between two redraws of curves and advice, which need not follow each step."""

REMOTE_LOG_SECONDS: Final = 5.0
"""Time between two reports in the log over SSH, where each scrolls all of its lines."""


class RefreshSchedule:
    """Figures follow each event, curves and advice the clock, and a remote log collects reports.

    All times are seconds of the screen's clock.
    """

    def __init__(self, *, remote: bool) -> None:
        self._remote = remote
        self._queued = False
        self._curves_due = True
        self._curves_behind = False
        self._redrawn = 0.0
        self._logged = 0.0

    def request(self) -> bool:
        """Queue a redraw; False if one is queued already."""
        queued, self._queued = self._queued, True
        return not queued

    def request_all(self) -> None:
        """Have the next redraw include the curves and the log."""
        self._curves_due, self._logged = True, 0.0

    def request_curves(self) -> None:
        """Have the next redraw include the curves."""
        self._curves_due = True

    def start(self, now: float, *, has_curves: bool) -> bool:
        """Begin the queued redraw; returns whether it includes the curves."""
        self._queued, self._redrawn = False, now
        self._curves_behind = has_curves and not self._curves_due
        return not self._curves_behind

    def curves_drawn(self) -> None:
        """The curves show the latest step."""
        self._curves_behind = self._curves_due = False

    def tick(self, now: float) -> bool:
        """A second has passed; returns whether to redraw what the clock changes.

        Over SSH the next event's redraw includes it, if events are coming.
        """
        self._curves_due = True
        return not self._remote or now - self._redrawn >= TICK_SECONDS

    @property
    def curves_behind(self) -> bool:
        """Whether there are steps that the curves don't show yet."""
        return self._curves_behind

    def log_due(self, log: Sequence[AnyEvent], now: float) -> bool:
        """Whether to show the log now, rather than with later reports."""
        is_report = bool(log) and isinstance(log[-1], TrainReported)
        if is_report and self._remote and now - self._logged < REMOTE_LOG_SECONDS:
            return False
        self._logged = now
        return True
