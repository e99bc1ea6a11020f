"""Which tokens of a sequence are trained, and how much each counts; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Span(NamedTuple):
    """Consecutive trained tokens, from `start` to before `stop`, of one weight in the loss.

    The spans of a sequence are in order, don't overlap, and begin at 1 or later: nothing predicts
    the very first token. Tokens of weight 0 are in no span.
    """

    start: int
    stop: int
    weight: float = 1.0


Spans = tuple[Span, ...]


def from_index(first: int, length: int) -> Spans:
    """All tokens from an index on, of a sequence of this length."""
    return (Span(max(1, first), length),) if max(1, first) < length else ()


def joined(spans: Iterable[Span]) -> Spans:
    """The spans in order, without empty ones; touching ones of equal weight become one."""
    found: list[Span] = []
    for start, stop, weight in sorted(spans):
        if start >= stop or not weight:
            continue
        if found and found[-1].stop == start and found[-1].weight == weight:
            start = found.pop().start
        found.append(Span(start, stop, weight))
    return tuple(found)


def clipped(spans: Iterable[Span], start: int, stop: int, to: int = 0) -> Iterator[Span]:
    """What of the spans lies from `start` to before `stop`, moved so that `start` becomes `to`."""
    for span in spans:
        low, high = max(span.start, start), min(span.stop, stop)
        if low < high:
            yield Span(low - start + to, high - start + to, span.weight)


def cut(spans: Spans, holes: Iterable[tuple[int, int]]) -> Spans:
    """The spans without these stretches of tokens."""
    for low, high in holes:
        if low < high:
            before = (Span(start, min(stop, low), each) for start, stop, each in spans)
            after = (Span(max(start, high), stop, each) for start, stop, each in spans)
            spans = joined((*before, *after))
    return spans


def scaled(spans: Spans, factor: float) -> Spans:
    """The spans with all weights multiplied."""
    if factor == 1:
        return spans
    return joined(Span(start, stop, weight * factor) for start, stop, weight in spans)


def count(spans: Spans) -> int:
    """How many tokens are trained."""
    return sum(stop - start for start, stop, _ in spans)


def weight(spans: Spans) -> float:
    """The sum of the trained tokens' weights."""
    return sum((stop - start) * weight for start, stop, weight in spans)


def weights(spans: Spans, length: int) -> NDArray[np.float32]:
    """(length,): each token's weight, 0 where it is not trained."""
    found = np.zeros(length, np.float32)
    for start, stop, each in spans:
        found[start:stop] = each
    return found
