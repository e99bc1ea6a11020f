"""Lines over an axis as an SVG picture; small, and without a library."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

_WIDTH: Final = 640
_HEIGHT: Final = 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 24, 24, 56
_TICKS: Final = 5
_ROW: Final = 20
"""Height of a line of the legend."""

_COLORS: Final = (
    *("#1f77b4", "#d55e00", "#009e73", "#cc79a7", "#e69f00"),
    *("#56b4e9", "#7f3c8d", "#8c564b", "#333333", "#999933"),
)
"""Most differ for people with any color vision; after them they repeat, dashed."""


@dataclass(frozen=True)
class Line:
    """A line's points by rising x, and its name in the legend."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class _Scale:
    """Ticks along an axis, and where values are drawn between two ends."""

    ticks: list[float]
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.ticks[0]) / (self.ticks[-1] - self.ticks[0])
        return self.start + share * (self.end - self.start)


def line_plot(lines: Sequence[Line], title: str, x_label: str, y_label: str) -> str:
    """The finite points of lines with labelled axes; empty without any.

    Points are marked where there are few. Several lines have a legend.
    """
    drawn = [(at, each.name, _thinned(points)) for at, each, points in _with_points(lines)]
    if not drawn:
        return ""
    every = [point for _, _, points in drawn for point in points]
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    x = _Scale(_ticks([each for each, _ in every], whole=True), _LEFT, right)
    y = _Scale(_ticks([each for _, each in every]), bottom, _TOP)
    height = _HEIGHT + (_ROW * len(drawn) if len(lines) > 1 else 0)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
            'font-family="sans-serif" font-size="13" fill="#444">',
            f"<title>{html.escape(title)}</title>",
            f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
            *_axes(x, y, x_label, y_label),
            *(part for at, _, points in drawn for part in _drawn(at, points, x, y)),
            *(_legend(drawn) if len(lines) > 1 else ()),
            "</svg>\n",
        ]
    )


_Points = list[tuple[float, float]]


def _with_points(lines: Sequence[Line]) -> Iterator[tuple[int, Line, _Points]]:
    for at, each in enumerate(lines):
        pairs = zip(each.x, each.y, strict=True)
        if points := [(x, y) for x, y in pairs if math.isfinite(x) and math.isfinite(y)]:
            yield at, each, points


def _thinned(points: _Points) -> _Points:
    """At most the lowest and highest point for each unit of the picture's width."""
    if len(points) <= 2 * _WIDTH:
        return points
    low, high = points[0][0], points[-1][0]
    buckets: dict[int, list[int]] = {}
    for at, (x, _) in enumerate(points):
        buckets.setdefault(int((x - low) / (high - low or 1.0) * _WIDTH), []).append(at)
    kept = {0, len(points) - 1}
    for indices in buckets.values():
        kept |= {min(indices, key=lambda at: points[at][1])}
        kept |= {max(indices, key=lambda at: points[at][1])}
    return [points[at] for at in sorted(kept)]


def _axes(x: _Scale, y: _Scale, x_label: str, y_label: str) -> Iterator[str]:
    for each in y.ticks:
        yield (
            f'<line x1="{_LEFT}" y1="{y(each):.1f}" x2="{x.end}" y2="{y(each):.1f}" '
            f'stroke="#ddd"/>{_text(_LEFT - 8, y(each) + 4, f"{each:.10g}", "end")}'
        )
    for each in x.ticks:
        yield _text(x(each), y.start + 20, f"{each:.10g}", "middle")
    yield _text((_LEFT + x.end) / 2, _HEIGHT - 12, x_label, "middle")
    yield (
        f'<g transform="translate(18 {(_TOP + y.start) / 2:.1f}) rotate(-90)">'
        f"{_text(0, 0, y_label, 'middle')}</g>"
    )


_FEW: Final = 60
"""Points that are marked."""


def _stroke(at: int) -> str:
    dashes = ' stroke-dasharray="6 3"' if at >= len(_COLORS) else ""
    return f'stroke="{_COLORS[at % len(_COLORS)]}"{dashes}'


def _drawn(at: int, points: _Points, x: _Scale, y: _Scale) -> Iterator[str]:
    path = " ".join(f"{x(each):.1f},{y(value):.1f}" for each, value in points)
    width = 2 if len(points) <= _FEW else 1.2
    yield f'<polyline points="{path}" fill="none" {_stroke(at)} stroke-width="{width}"/>'
    if len(points) <= _FEW:
        for each, value in points:
            color = _COLORS[at % len(_COLORS)]
            yield f'<circle cx="{x(each):.1f}" cy="{y(value):.1f}" r="3" fill="{color}"/>'


def _legend(drawn: Sequence[tuple[int, str, _Points]]) -> Iterator[str]:
    for row, (at, name, _) in enumerate(drawn):
        y = _HEIGHT + _ROW * row + 4
        yield (
            f'<line x1="{_LEFT}" y1="{y - 4}" x2="{_LEFT + 28}" y2="{y - 4}" {_stroke(at)} '
            f'stroke-width="2"/>{_text(_LEFT + 38, y, name, "start")}'
        )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _ticks(values: Sequence[float], *, whole: bool = False) -> list[float]:
    """Round numbers around values, at least two."""
    low, high = min(values), max(values)
    rough = (high - low) / _TICKS or max(abs(low), 1.0) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    size = next(each * power for each in (1, 2, 5, 10) if each * power >= rough * 0.999)
    size = max(1.0, size) if whole else size
    first, last = math.floor(low / size), math.ceil(high / size)
    return [each * size for each in range(first, max(last, first + 1) + 1)]
