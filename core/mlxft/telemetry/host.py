"""The host's CPU, memory, disk and battery, from psutil."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any

from mlxft.telemetry.sample import Figures


class Host:
    """CPU utilization since the previous sample, memory, swap, disk and battery.

    On macOS memory comes from `apple`: psutil's memory calls fail on macOS 27.
    """

    def __init__(self, folder: str = ".") -> None:
        """`folder` is on the disk whose free space is reported."""
        self._folder = folder
        self._times: Any = None
        self._share: float | None = None

    def read(self) -> Figures:
        """The current figures; `cpu_share` is None in the first sample."""
        import psutil

        figures = Figures()
        for source in (self._processors, self._disk, _battery, _memory):
            # macOS 27 refuses some calls; the others must still be reported.
            with contextlib.suppress(AttributeError, OSError, RuntimeError, psutil.Error):
                figures.update(source(psutil))
        return figures

    def _processors(self, psutil: Any) -> Figures:
        return Figures(cpu_share=self._cpu_share(psutil.cpu_times()))

    def _disk(self, psutil: Any) -> Figures:
        return Figures(disk_free=psutil.disk_usage(self._folder).free)

    def _cpu_share(self, now: Any) -> float | None:
        """Busy share; two samples within one clock tick give the previous share."""
        before, self._times = self._times, now
        if before is None:
            return None
        total = _total(now) - _total(before)
        if total > 0:
            idle = _idle(now) - _idle(before)
            self._share = min(1.0, max(0.0, 1 - idle / total))
        return self._share


class OtherWork:
    """The share of the processors that other processes have used since this was made."""

    def __init__(self) -> None:
        self._before = self._now()

    def share(self) -> float | None:
        """From 0 to 1; None where the system doesn't say, or less than a clock tick has passed."""
        before, now = self._before, self._now()
        if before is None or now is None or now[0] <= before[0]:
            return None
        total, busy, own = (after - earlier for earlier, after in zip(before, now, strict=True))
        return min(1.0, max(0.0, (busy - own) / total))

    @staticmethod
    def _now() -> tuple[float, float, float] | None:
        """Seconds of all processors, the busy ones of them, and those of this process."""
        import psutil

        try:
            times = psutil.cpu_times()
        except (AttributeError, OSError, RuntimeError, psutil.Error):
            return None
        return _total(times), _total(times) - _idle(times), time.process_time()


def resident_memory() -> int | None:
    """This process's resident memory in bytes; None if the system doesn't report it."""
    import psutil

    try:
        return int(psutil.Process().memory_info().rss)
    except (OSError, RuntimeError, psutil.Error):
        return None


def _battery(psutil: Any) -> Figures:
    """Empty without a battery, or if psutil can't read it."""
    battery = psutil.sensors_battery()
    if battery is None:
        return Figures()
    plugged = battery.power_plugged
    return Figures(
        battery_share=min(1.0, battery.percent / 100),
        on_battery=None if plugged is None else not plugged,
    )


def _memory(psutil: Any) -> Figures:
    if sys.platform == "darwin":
        return Figures()
    memory = psutil.virtual_memory()
    return Figures(
        memory_used=memory.total - memory.available,
        memory_total=memory.total,
        swap_used=psutil.swap_memory().used,
    )


def _total(times: Any) -> float:
    """Linux includes guest time in user time."""
    guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return float(sum(times) - guests)


def _idle(times: Any) -> float:
    return float(times.idle + getattr(times, "iowait", 0.0))
