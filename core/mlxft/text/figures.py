"""Format numbers and paths for every screen: short, with a dash for missing ones."""

from __future__ import annotations

import math
from pathlib import Path

NONE = "—"

_LONG = 1e7
"""From here on figures of losses have an exponent."""


def duration(seconds: float | None) -> str:
    """Like a clock: 7 s, 4:05, 2:03:04, 3 d 4 h."""
    if seconds is None or not math.isfinite(seconds):
        return NONE
    whole = max(0, round(seconds))
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    if hours:
        return f"{hours}:{minute:02}:{second:02}"
    return f"{minutes}:{second:02}" if minutes else f"{second} s"


def age(seconds: float) -> str:
    """How long ago, in one unit: now, 5 min, 3 h, 12 d."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return "now"


def gigabytes(size: float | None) -> str:
    """Bytes as decimal gigabytes, with two decimals below ten, else one."""
    if size is None:
        return NONE
    return f"{size / 1e9:.2f}" if size < 9.995e9 else f"{size / 1e9:.1f}"


def size(count: float) -> str:
    """Bytes with their unit: gigabytes, or megabytes below 0.1 GB."""
    return f"{count / 1e6:.1f} MB" if count < 99.95e6 else f"{gigabytes(count)} GB"


def whole(value: float | None) -> str:
    """A number without decimals."""
    return NONE if value is None else f"{value:.0f}"


def loss(value: float | None) -> str:
    """A loss with three decimals; a diverged one as 1.000e+30."""
    if value is None:
        return NONE
    return f"{value:.3e}" if abs(value) >= _LONG else f"{value:.3f}"


def share(value: float) -> str:
    """A share as a percentage: 20.5%, or -1.0e+30% where it has too many digits."""
    return f"{100 * value:.1e}%" if abs(value) >= _LONG else f"{value:.1%}"


def improvement(before: float, after: float) -> str:
    """What became of a loss: improved by 80.4%, worse by 3.2%."""
    change = 1 - after / before if before else 0.0
    return f"{'improved' if change >= 0 else 'worse'} by {share(abs(change))}"


def count(number: int) -> str:
    """A whole number with its thousands separated: 12,345."""
    return f"{number:,}"


def epochs(number: float) -> str:
    """Three digits below 100, else a whole number: 0.8, 2.67, 1,000."""
    return f"{number:.3g}" if number < 99.5 else count(round(number))


def rate(value: float | None) -> str:
    """Something per second, with three digits."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{value:.0f}" if 99.5 <= value < _LONG * 1000 else f"{value:.3g}"


def learning_rate(value: float) -> str:
    """A learning rate in the usual notation: 2e-4."""
    if value == 0 or value >= 0.1:
        return f"{value:.4g}"
    mantissa, exponent = f"{value:.3e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def short_rate(value: float) -> str:
    """A learning rate with three digits."""
    return learning_rate(float(f"{value:.2e}"))


def short_path(path: Path) -> str:
    """The absolute path, with the home folder as ~."""
    whole = path.absolute()
    return (
        f"~/{whole.relative_to(Path.home())}" if whole.is_relative_to(Path.home()) else str(whole)
    )


def shown_path(text: str) -> str:
    """A path in full with the home folder as ~; a relative one or a hub id stays as it is."""
    return short_path(Path(text)) if Path(text).is_absolute() else text
