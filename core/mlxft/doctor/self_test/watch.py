"""The self-test's time, progress and cancellation."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from mlxft.self_test.checks import Check


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a self-test is: the part, what is being measured, and the checks made by it."""

    part: str
    number: int
    parts: int
    subject: str
    seconds: float
    latest: Check | None = None

    @property
    def line(self) -> str:
        """Seconds, part and what is being measured."""
        where = f"{self.part} ({self.number} of {self.parts})"
        return f"{self.seconds:4.0f} s  {where}: {self.subject}"


class CancelledError(Exception):
    """The user has cancelled the self-test."""


class OutOfTimeError(Exception):
    """No time is left for what was to be measured."""


class Watch:
    """Ends what takes too long or is cancelled, and reports what is measured."""

    def __init__(
        self,
        seconds: float,
        report: Callable[[Progress], object] = lambda _: None,
        is_cancelled: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`seconds` is how long all parts may take together."""
        self._seconds, self._report, self._is_cancelled = seconds, report, is_cancelled
        self._clock = clock
        self._started = clock()
        self._part, self._number, self._parts = "", 0, 0

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._started

    @property
    def remaining(self) -> float:
        """Seconds left for all parts."""
        return max(0.0, self._seconds - self.elapsed)

    def check(self) -> None:
        """Raise `CancelledError` if the self-test is cancelled."""
        if self._is_cancelled():
            raise CancelledError

    def need_time(self) -> None:
        """Raise `OutOfTimeError` if no time is left, and `CancelledError`."""
        self.check()
        if not self.remaining:
            raise OutOfTimeError

    def begin(self, part: str, number: int, parts: int) -> None:
        """Another part has begun."""
        self._part, self._number, self._parts = part, number, parts

    def measuring(self, subject: str, latest: Check | None = None) -> None:
        """Report what is being measured, or a check that was made."""
        self.check()
        self._report(
            Progress(
                part=self._part,
                number=self._number,
                parts=self._parts,
                subject=subject,
                seconds=self.elapsed,
                latest=latest,
            )
        )

    def wait(self, look: Callable[[], bool], seconds: float, pause: float = 0.02) -> bool:
        """Wait until something is seen, at most this long; whether it was seen. Raises
        `OutOfTimeError` once no time is left, and `CancelledError`."""
        end = self._clock() + seconds
        while not look():
            self.need_time()
            if self._clock() > end:
                return False
            time.sleep(pause)
        return True
