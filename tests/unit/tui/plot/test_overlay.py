"""Curves of several runs in one plot."""

from __future__ import annotations

import numpy as np
import pytest

from mlxft.recipe import Recipe
from mlxft_tui.plot.axes import LABEL_WIDTH, Axes
from mlxft_tui.plot.overlay import (
    XY,
    OverlayOptions,
    curve_of,
    figures_of,
    overlay_rows,
    x_limits,
)
from mlxft_tui.plot.raster import raster, spans
from mlxft_tui.plot.series import Series
from mlxft_tui.text.cells import plain_text
from support.journal import ended, trained_run, view_of

AXES = Axes(x_low=0, x_high=1000, y_low=0, y_high=10)


def test_no_spike_of_a_long_curve_is_lost() -> None:
    """At 40 columns each has 2,500 points of which one stands out."""
    x = np.arange(100_000.0) / 100
    y = np.ones(len(x))
    spikes = np.arange(1_250, len(x), 2_500)
    y[spikes] = 9.0
    low, high = spans(Series(x, y, "run_1"), AXES, 40, 11)
    assert high.tolist() == [9.0] * 40
    assert low.tolist() == [1.0] * 40


def test_a_line_has_no_gap_and_ends_where_its_run_does() -> None:
    rows = raster([Series([0.0, 500.0], [10.0, 0.0], "run_1")], AXES, 20, 10)
    lines = ["".join(text for text, _ in row) for row in rows]
    assert all(line.strip() for line in lines)
    assert all(not line[11:].strip() for line in lines)


def test_the_later_series_has_the_colour_of_a_shared_cell() -> None:
    flat = [Series([0.0, 1000.0], [5.0, 5.0], role) for role in ("run_1", "run_2")]
    roles = {role for row in raster(flat, AXES, 10, 5) for _, role in row}
    assert roles == {"plain", "run_2"}


def test_without_braille_each_run_has_its_character() -> None:
    curves = [XY(np.array([0.0, 9.0]), np.array([1.0, 1.0]), 9.0) for _ in range(2)]
    options = OverlayOptions(highlighted=0, hidden=frozenset({1}))
    rows = overlay_rows(curves, options, width=40, height=12, ascii_only=True)
    drawn = "".join(map(plain_text, rows[1:-2]))
    assert "111" in drawn
    assert "2" not in drawn.replace("1.2", "")


def test_without_braille_the_tenth_run_bears_the_number_of_the_legend() -> None:
    tenth = XY(np.array([0.0, 99.0]), np.array([1.0, 1.0]), 99.0)
    none = XY(np.zeros(0), np.zeros(0))
    rows = overlay_rows(
        [*[none] * 9, tenth], OverlayOptions(), width=60, height=12, ascii_only=True
    )
    (line,) = (each for each in map(plain_text, rows[1:-2]) if "*" in each)
    curve = line[LABEL_WIDTH:].strip()
    assert curve.endswith("*10")
    assert set(curve) == set("*10")


def test_without_colours_each_curve_bears_its_number_at_its_end_and_along_it() -> None:
    ends = (99.0, 60.0)
    curves = [
        XY(np.array([0.0, end]), np.array([1.0, 1.0 + at]), end) for at, end in enumerate(ends)
    ]
    rows = overlay_rows(curves, OverlayOptions(), width=106, height=12, numbered=True)
    lines = list(map(plain_text, rows[1:-2]))
    drawn = ["".join(each[LABEL_WIDTH:] for each in lines).count(number) for number in "12"]
    assert drawn == [5, 3]
    assert [each.rstrip()[-1:] for each in lines if "1" in each[LABEL_WIDTH:]] == ["1"]


def test_the_crosshair_reads_no_value_after_a_run_has_ended() -> None:
    recipe = Recipe(iters=40)
    view = view_of([*trained_run(recipe, 40), ended(40)])
    validation = curve_of(view, "validation", "step", 1)
    assert (validation.at(39.0), validation.at(None)) == pytest.approx((1.0, 0.95))
    assert validation.at(41.0) is None
    assert curve_of(view, "loss", "tokens", 1).end == 40 * 400
    assert x_limits([validation], OverlayOptions(halvings=1, cursor=10.0)) == (0.0, 20.0)


def test_only_figures_that_a_run_has_are_shown() -> None:
    assert figures_of([]) == ["loss"]
    view = view_of(trained_run(Recipe(iters=40), 40))
    found = figures_of([view])
    assert found[:2] == ["loss", "validation"]
    assert "margin" not in found
    assert not len(curve_of(view, "margin", "step", 1).x)
