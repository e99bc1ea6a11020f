"""Curves as cells: what is drawn, what is skipped, and what never moves."""

from __future__ import annotations

import math
import random
import time
from typing import Any

import numpy as np
import pytest

from mlxft.runs.smoothing import smoothed
from mlxft_tui.plot.axes import (
    LABEL_WIDTH,
    Axes,
    axes_around,
    labels,
    x_end,
    x_ticks,
    x_window,
    y_range,
    y_ticks,
)
from mlxft_tui.plot.canvas import column, curve_rows, draw
from mlxft_tui.plot.series import Series, decimated
from mlxft_tui.text.cells import Row, plain_text, width_of


def drawn(rows: tuple[Row, ...]) -> str:
    return "\n".join(plain_text(row) for row in rows)


def falling(count: int) -> Series:
    chance = random.Random(1)
    x = np.arange(1.0, count + 1)
    noise = np.array([chance.gauss(0, 0.1) for _ in range(min(count, 1000))])
    return Series(x, 3 * np.exp(-3 * x / count) + np.resize(noise, count), "raw")


class TestSmoothing:
    @pytest.mark.parametrize("steps", [2, 10, 100])
    def test_is_the_debiased_average(self, steps: int) -> None:
        chance = random.Random(2)
        values = [chance.random() for _ in range(1000)]
        beta = 1 - 1 / steps
        average, expected = 0.0, []
        for count, value in enumerate(values, 1):
            average = beta * average + (1 - beta) * value
            expected.append(average / (1 - beta**count))
        assert smoothed(values, steps) == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize("steps", [2, 10, 1000])
    @pytest.mark.parametrize("stride", [1, 7, 5000])
    def test_blocks_equal_the_plain_loop(self, steps: int, stride: int) -> None:
        chance = random.Random(4)
        values = [chance.random() for _ in range(20_000)]
        counts = [chance.choice([1, stride]) for _ in values]
        beta, average, weight = 1 - 1 / steps, 0.0, 0
        expected = []
        for value, count in zip(values, counts, strict=True):
            average += (1 - beta**count) * (value - average)
            weight += count
            expected.append(average / (1 - beta**weight))
        assert smoothed(values, steps, counts) == pytest.approx(expected, abs=1e-12)

    def test_a_value_of_several_steps_has_their_weight(self) -> None:
        single = smoothed([1.0, 1.0, 1.0, 4.0, 4.0], 10)
        thinned = smoothed([1.0, 4.0], 10, [3, 2])
        assert thinned == pytest.approx(single[[2, 4]])

    def test_over_one_step_changes_nothing(self) -> None:
        assert smoothed([3.0, 1.0], 1).tolist() == [3.0, 1.0]

    def test_without_values_is_empty(self) -> None:
        assert len(smoothed([], 10)) == 0


class TestDecimation:
    def test_keeps_every_spike_of_a_million_points(self) -> None:
        x = np.arange(1e6)
        y = np.zeros(len(x))
        y[123_456], y[654_321] = 9.0, -9.0
        _, kept = decimated(x, y, 0, 1e6, 160)
        assert (kept.max(), kept.min()) == (9.0, -9.0)

    def test_keeps_two_points_per_bucket_and_two_neighbours(self) -> None:
        x = np.arange(1e6)
        kept, _ = decimated(x, np.sin(x), 2e5, 8e5, 160)
        assert len(kept) <= 2 * 160 + 2

    def test_adds_no_point(self) -> None:
        series = falling(5000)
        points = set(zip(*map(np.ndarray.tolist, (series.x, series.y)), strict=True))
        kept = decimated(np.asarray(series.x), np.asarray(series.y), 0, 5000, 80)
        assert set(zip(kept[0].tolist(), kept[1].tolist(), strict=True)) <= points

    def test_keeps_all_of_a_few_points(self) -> None:
        x = np.array([1.0, 2.0, 3.0])
        assert decimated(x, x, 0, 10, 160)[0].tolist() == [1.0, 2.0, 3.0]


class TestAxes:
    def test_the_x_axis_moves_a_few_times_while_a_run_grows(self) -> None:
        ends = [x_end(step, 1000) for step in range(1, 1001)]
        assert len(set(ends)) <= 22
        assert all(end >= step for step, end in enumerate(ends, 1))
        assert ends[-1] == 1000

    def test_the_x_axis_never_passes_the_end_of_the_run(self) -> None:
        assert x_end(590, 600) == 600

    def test_a_run_longer_than_planned_still_fits(self) -> None:
        assert x_end(700, 600) >= 700

    @pytest.mark.parametrize(
        ("low", "high"), [(0.31, 2.6), (1.9, 2.1), (-3, 7), (5, 5), (0, 0), (1e-5, 2e-4)]
    )
    def test_the_y_axis_holds_all_values(self, low: float, high: float) -> None:
        bottom, top = y_range(low, high)
        assert bottom <= low <= high <= top
        assert bottom < top

    def test_a_small_change_does_not_move_the_y_axis(self) -> None:
        assert y_range(0.312, 2.61) == y_range(0.305, 2.58) == (0.0, 3.0)

    def test_a_logarithmic_axis_ends_at_one_two_or_five(self) -> None:
        assert y_range(0.3, 3.1, log=True) == pytest.approx((0.2, 5.0))

    def test_a_window_follows_the_end_in_jumps(self) -> None:
        windows = {last: x_window(last, 1000, 0.25, None) for last in range(800, 960)}
        assert len(set(windows.values())) <= 6
        assert all(low < last <= high for last, (low, high) in windows.items())

    def test_a_window_stays_inside_the_run(self) -> None:
        assert x_window(1000, 1000, 0.5, 0.0) == (0.0, 500.0)

    def test_infinite_and_missing_values_do_not_count(self) -> None:
        series = Series([1.0, 2.0, 3.0, 4.0], [1.0, math.inf, math.nan, 2.0], "raw")
        axes = axes_around([series], 0, 10)
        assert (axes.y_low, axes.y_high) == y_range(1.0, 2.0)

    def test_a_logarithmic_axis_skips_values_without_a_logarithm(self) -> None:
        axes = axes_around([Series([1.0, 2.0, 3.0], [0.0, -1.0, 2.0], "raw")], 0, 10, log=True)
        assert axes.y_low > 0

    def test_ticks_are_round_and_limited_in_number(self) -> None:
        axes = Axes(x_low=0, x_high=1000, y_low=0, y_high=3)
        assert y_ticks(axes, 7) == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5, 3])
        assert x_ticks(axes, 6) == [0, 200, 400, 600, 800, 1000]

    @pytest.mark.parametrize("unit", ["rate", "value", "memory"])
    def test_tick_labels_are_distinct(self, unit: Any) -> None:
        for width in (1e-7, 1e-6, 1e-5, 3e-5, 1e-4):
            axes = Axes(
                x_low=123_400,
                x_high=123_400 + 1e9 * width,
                y_low=3.9e-4,
                y_high=3.9e-4 + width,
                y_unit=unit,
            )
            for ticks, of in ((y_ticks(axes, 12), unit), (x_ticks(axes, 12), "step")):
                texts = labels(ticks, of)
                assert len(texts) == len(set(texts))
            assert y_ticks(axes, 12)

    def test_ticks_are_at_whole_steps(self) -> None:
        assert x_ticks(Axes(x_low=0, x_high=20, y_low=0, y_high=1), 10) == [0, 5, 10, 15, 20]
        assert x_ticks(Axes(x_low=0, x_high=3, y_low=0, y_high=1), 10) == [0, 1, 2, 3]
        assert x_ticks(Axes(x_low=0, x_high=200, y_low=0, y_high=1), 10) == [
            0,
            25,
            50,
            75,
            100,
            125,
            150,
            175,
            200,
        ]

    def test_time_has_ticks_at_whole_minutes(self) -> None:
        axes = Axes(x_low=0, x_high=400, y_low=0, y_high=1, x_unit="time")
        assert labels(x_ticks(axes, 8), "time")[:3] == ["0:00", "1:00", "2:00"]

    @pytest.mark.parametrize(
        ("values", "unit", "texts"),
        [
            ([0, 5e-5, 1.5e-4, 4e-4], "rate", ["0", "5e-5", "1.5e-4", "4e-4"]),
            ([1e-6, 1e-3], "rate", ["1e-6", "1e-3"]),
            ([0, 8.4e8, 1.25e10], "memory", ["0G", "0.84G", "12.5G"]),
            ([0, 5000, 12_500], "tokens", ["0", "5k", "12.5k"]),
            ([0, 500, 1000], "step", ["0", "500", "1000"]),
            ([0, 5e5, 1e6, 1.5e6], "tokens", ["0", "0.5M", "1M", "1.5M"]),
            ([0, 1e12, 2e12], "value", ["0", "1e12", "2e12"]),
            ([0.01, 2.5, 1234.5], "value", ["0.01", "2.5", "1234"]),
            ([5e-5], "value", ["5e-5"]),
        ],
    )
    def test_labels_are_written_as_people_do(
        self, values: list[float], unit: Any, texts: list[str]
    ) -> None:
        assert labels(values, unit) == texts


class TestDrawing:
    def test_has_the_given_size_whatever_the_terminal(self) -> None:
        series = [falling(500)]
        rows = draw(series, axes_around(series, 0, 500), 190, 50)
        assert len(rows) == 50
        assert {width_of(row) for row in rows} == {190}

    def test_drawing_is_deterministic(self) -> None:
        series = [falling(500)]
        axes = axes_around(series, 0, 500, log=True)
        first = draw(series, axes, 80, 20)
        other = [Series([1.0, 2.0], [5.0, 6.0], "smooth")]
        draw(other, axes_around(other, 0, 2), 60, 10)
        assert draw(series, axes, 80, 20) == first

    def test_a_later_point_changes_no_earlier_column(self) -> None:
        series = falling(400)
        shorter = Series(np.asarray(series.x)[:300], np.asarray(series.y)[:300], "raw")
        axes = axes_around([series], 0, 500)
        longer, before = draw([series], axes, 80, 20), draw([shorter], axes, 80, 20)
        edge = LABEL_WIDTH + column(axes, 80 - LABEL_WIDTH, 300) - 1
        assert [plain_text(row)[:edge] for row in longer] == [
            plain_text(row)[:edge] for row in before
        ]

    @pytest.mark.parametrize(("low", "high"), [(0, 100), (40, 70)])
    @pytest.mark.parametrize("ends", [(0.0, 20.0), (20.0, 0.0)])
    def test_a_straight_line_is_straight_across_the_canvas(
        self, ends: tuple[float, float], low: float, high: float
    ) -> None:
        """The canvas is drawn in strips, and a zoomed line starts outside."""
        series, axes = (
            [Series([0.0, 100.0], ends, "raw")],
            Axes(x_low=low, x_high=high, y_low=0, y_high=20),
        )
        rows = [plain_text(row).ljust(90) for row in curve_rows(series, axes, 90, 10)]
        places = [[y for y in range(10) if rows[y][x] != " "] for x in range(90)]
        assert all(1 <= len(each) <= 2 for each in places)
        heights = [sum(each) / len(each) for each in places]
        assert heights == sorted(heights, reverse=ends[0] < ends[1])

    def test_the_smoothed_curve_covers_the_raw_one(self) -> None:
        raw = falling(300)
        smooth = Series(raw.x, smoothed(raw.y, 10), "smooth")
        rows = draw([raw, smooth], axes_around([raw], 0, 300), 80, 20)
        assert {"raw", "smooth"} <= {role for row in rows for _, role in row}

    def test_points_ticks_and_cursor_are_drawn(self) -> None:
        points = Series([50.0], [1.0], "validation", "●")
        axes = Axes(x_low=0, x_high=100, y_low=0, y_high=2)
        rows = draw([points], axes, 80, 20, cursor=25.0, ticks=[(50.0, "▲", "best")])
        runs = [run for row in rows for run in row]
        assert ("●", "validation") in runs
        assert ("▲", "best") in runs
        assert sum(role == "cursor" for _, role in runs) >= 15

    def test_ascii_only_is_ascii_only(self) -> None:
        raw = falling(300)
        smooth = Series(raw.x, smoothed(raw.y, 10), "smooth")
        rows = draw([raw, smooth], axes_around([raw], 0, 300), 80, 20, ascii_only=True)
        assert drawn(rows).isascii()
        assert "*" in drawn(rows)

    def test_an_empty_series_is_an_empty_frame(self) -> None:
        rows = draw([Series((), (), "raw")], Axes(x_low=0, x_high=10, y_low=0, y_high=1), 40, 10)
        assert len(rows) == 10

    def test_a_tiny_area_has_no_chart(self) -> None:
        assert draw([], Axes(x_low=0, x_high=10, y_low=0, y_high=1), 8, 3) == ()

    def test_a_sparkline_has_no_axes(self) -> None:
        series = [falling(100)]
        rows = curve_rows(series, axes_around(series, 0, 100), 30, 4)
        assert [width_of(row) for row in rows] == [30] * 4

    def test_a_million_points_cost_about_as_much_as_a_thousand(self) -> None:
        def seconds(count: int) -> float:
            series = [falling(count)]
            axes = axes_around(series, 0, count)
            draw(series, axes, 80, 20)
            start = time.process_time()
            draw(series, axes, 80, 20)
            return time.process_time() - start

        # Generous: the cost must not grow with the number of points.
        assert seconds(1_000_000) < 20 * seconds(1000)
