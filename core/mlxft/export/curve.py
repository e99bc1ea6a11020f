"""The validation curve of a run as an SVG picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

CURVE_NAME: Final = "validation.svg"

_WIDTH, _HEIGHT = 640, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 24, 24, 56
_TICKS = 5


def curve_svg(points: Sequence[tuple[int, float]]) -> str:
    """Losses over steps with labelled axes; empty without a finite loss."""
    finite = [(step, loss) for step, loss in points if math.isfinite(loss)]
    if not finite:
        return ""
    xs = _ticks(min(step for step, _ in finite), max(step for step, _ in finite), whole=True)
    ys = _ticks(min(loss for _, loss in finite), max(loss for _, loss in finite))
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT

    def x(step: float) -> float:
        return _LEFT + (step - xs[0]) / (xs[-1] - xs[0]) * (right - _LEFT)

    def y(loss: float) -> float:
        return bottom - (loss - ys[0]) / (ys[-1] - ys[0]) * (bottom - _TOP)

    line = " ".join(f"{x(step):.1f},{y(loss):.1f}" for step, loss in finite)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
            'font-family="sans-serif" font-size="13" fill="#444">',
            "<title>Validation loss over training steps</title>",
            f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
            *(
                f'<line x1="{_LEFT}" y1="{y(each):.1f}" x2="{right}" y2="{y(each):.1f}" '
                f'stroke="#ddd"/>{_text(_LEFT - 8, y(each) + 4, f"{each:.10g}", "end")}'
                for each in ys
            ),
            *(_text(x(each), bottom + 20, f"{each:.10g}", "middle") for each in xs),
            f'<polyline points="{line}" fill="none" stroke="#1f77b4" stroke-width="2"/>',
            *(
                f'<circle cx="{x(step):.1f}" cy="{y(loss):.1f}" r="3" fill="#1f77b4"/>'
                for step, loss in finite
            ),
            _text((_LEFT + right) / 2, _HEIGHT - 12, "step", "middle"),
            f'<g transform="translate(18 {(_TOP + bottom) / 2:.1f}) rotate(-90)">'
            f"{_text(0, 0, 'validation loss', 'middle')}</g>",
            "</svg>\n",
        ]
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def _ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Round numbers around a range, at least two."""
    rough = (high - low) / _TICKS or max(abs(low), 1.0) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    size = next(each * power for each in (1, 2, 5, 10) if each * power >= rough * 0.999)
    size = max(1.0, size) if whole else size
    first, last = math.floor(low / size), math.ceil(high / size)
    return [each * size for each in range(first, max(last, first + 1) + 1)]
