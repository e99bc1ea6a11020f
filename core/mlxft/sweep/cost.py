"""What a sweep will cost: runs, hours and disk."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from mlxft.duration.expectation import Expectation
from mlxft.memory.estimator import MemoryEstimate
from mlxft.recipe import Recipe
from mlxft.sweep.fit import folder_bytes, refusal
from mlxft.sweep.plan import Halving, Point, Sweep, point, points, prepared
from mlxft.sweep.space import check_search, samples, size, space_of
from mlxft.text import figures

MOST_ESTIMATED: Final = 60
"""Points that are estimated; a larger sweep's are these, spread evenly, times their number."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What is known of a recipe before its run; None where nothing is."""

    memory: Callable[[Recipe], MemoryEstimate | None]
    time: Callable[[Recipe], Expectation | None]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """A sweep's cost as far as it is known."""

    runs: int | None
    """None if only the hours of a search decide."""
    seconds: float | None = None
    spread: float = 1.0
    """A factor: the true time lies between `seconds` divided and multiplied by it."""
    disk: int | None = None
    unfit: tuple[Point, ...] = field(default=())
    """Those of the estimated points that won't fit."""
    is_sampled: bool = False
    """Whether the points were estimated from examples."""
    reason: str = ""
    """Why the first of `unfit` won't fit."""


def cost(sweep: Sweep, base: Recipe, sources: Sources) -> Cost:
    """The cost of a sweep of a recipe. Raises `RecipeError` for one that can't be made."""
    found, count, is_sampled = _examples(sweep, base)
    fitting: list[Point] = []
    unfit: list[Point] = []
    disk, reason = list[int](), ""
    for each in found:
        estimate = sources.memory(each.recipe)
        if refused := refusal(estimate):
            unfit.append(each)
            reason = reason or refused
            continue
        fitting.append(each)
        if estimate is not None:
            disk.append(folder_bytes(each.recipe, estimate))
    if sweep.search is None and count is not None and found:
        count = count - len(unfit) if not is_sampled else round(count * len(fitting) / len(found))
    seconds, spread = _time(fitting, sources)
    hours = sweep.search.hours if sweep.search else None
    if seconds and hours is not None:
        # The run that passes the hours is the last.
        by_hours = max(1, math.ceil(hours * 3600 / seconds))
        count = by_hours if count is None else min(count, by_hours)
    share = halved_share(sweep.halving, count or 0, base.iters)
    whole = None if seconds is None or count is None else seconds * count * share
    return Cost(
        runs=count,
        seconds=whole,
        spread=spread,
        disk=round(sum(disk) / len(disk) * count) if disk and count is not None else None,
        unfit=tuple(unfit),
        is_sampled=is_sampled,
        reason=reason,
    )


def _examples(sweep: Sweep, base: Recipe) -> tuple[list[Point], int | None, bool]:
    """Points to estimate from, the number of points, and whether there are others."""
    if not sweep.space and sweep.search is None:
        found = points(sweep, base)
        step = math.ceil(len(found) / MOST_ESTIMATED)
        return found[::step], len(found), step > 1
    search = check_search(sweep, base)
    base = prepared(sweep, base)
    space = space_of(sweep.space)
    drawn = samples(space, MOST_ESTIMATED)
    found = [point(sweep.name, number, each, base) for number, each in enumerate(drawn, 1)]
    count = min(math.inf if search.runs is None else search.runs, size(space))
    return found, round(count) if math.isfinite(count) else None, True


def _time(found: Sequence[Point], sources: Sources) -> tuple[float | None, float]:
    """The mean seconds of a run, and how far they may be off."""
    expected = [
        each for each in (sources.time(point.recipe) for point in found) if each is not None
    ]
    if not expected or len(expected) < len(found):
        return None, 1.0
    mean = sum(each.seconds for each in expected) / len(expected)
    return mean, max(each.spread for each in expected)


def halved_share(halving: Halving | None, count: int, iters: int) -> float:
    """The share of all points' steps that successive halving trains; 1 without it."""
    if halving is None or not count:
        return 1.0
    steps, before, kept = 0, 0, count
    for until in halving.rounds(iters):
        steps += kept * (until - before)
        before, kept = until, max(1, kept // halving.factor)
    return steps / (count * iters)


def described(found: Cost) -> str:
    """A cost in words: ``12 runs, about 3:10:00 of training, up to 1.20 GB on disk``."""
    runs = "as many runs as the hours allow" if found.runs is None else _runs(found.runs)
    parts = [runs, _duration(found)]
    parts.append(
        "disk space unknown" if found.disk is None else f"up to {figures.size(found.disk)} on disk"
    )
    return ", ".join(parts)


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{figures.count(count)} runs"


def _duration(found: Cost) -> str:
    if found.seconds is None:
        return "time unknown before the first run of this model here"
    said = f"about {figures.duration(found.seconds)} of training"
    if found.spread <= 1.2:
        return said
    least, most = found.seconds / found.spread, found.seconds * found.spread
    return f"{said} ({figures.duration(least)} to {figures.duration(most)})"


def unfit_text(found: Cost) -> str:
    """Which points won't fit, as a sentence; empty if all do."""
    if not found.unfit:
        return ""
    count, shown = len(found.unfit), 1 if found.is_sampled else 3
    named = "; ".join(map(_named, found.unfit[:shown]))
    more = f" and {count - shown} more" if count > shown else ""
    examples = f" of {MOST_ESTIMATED} examples" if found.is_sampled else ""
    return f"{count}{examples} won't fit ({found.reason}) and will be skipped: {named}{more}."


def _named(found: Point) -> str:
    """A point's values in short."""
    return ", ".join(f"{key} {_text(each)}" for key, each in found.values.items())


def _text(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
