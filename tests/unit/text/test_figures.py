"""Numbers and paths as shown on all screens."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from mlxft.text import figures


class TestFigures:
    @pytest.mark.parametrize(
        ("seconds", "text"),
        [(None, "—"), (7.4, "7 s"), (245, "4:05"), (7384, "2:03:04"), (273_600, "3 d 4 h")],
    )
    def test_durations(self, seconds: float | None, text: str) -> None:
        assert figures.duration(seconds) == text

    @pytest.mark.parametrize(
        ("seconds", "text"), [(3, "now"), (300, "5 min"), (10_800, "3 h"), (1_100_000, "12 d")]
    )
    def test_ages(self, seconds: float, text: str) -> None:
        assert figures.age(seconds) == text

    @pytest.mark.parametrize(
        ("rate", "text"),
        [(2e-4, "2e-4"), (1.5e-5, "1.5e-5"), (0.0, "0"), (1.0, "1"), (2.239, "2.239")],
    )
    def test_learning_rates(self, rate: float, text: str) -> None:
        assert figures.learning_rate(rate) == text

    def test_figures_of_a_diverged_run_are_short(self) -> None:
        assert [figures.loss(each) for each in (1.5, 1e308, math.nan)] == [
            "1.500",
            "1.000e+308",
            "nan",
        ]
        assert figures.improvement(1e-300, 1) == "worse by 1.0e+302%"
        assert figures.rate(1e308) == "1e+308"

    def test_counts_are_grouped(self) -> None:
        assert figures.count(1_234_567) == "1,234,567"

    def test_the_home_folder_is_a_tilde(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", "/home/ada")
        assert figures.short_path(Path("/home/ada/lamps")) == "~/lamps"
        assert figures.short_path(Path("/srv/lamps")) == "/srv/lamps"


def test_a_path_is_shown_from_the_home_folder_and_an_id_as_it_is() -> None:
    assert figures.shown_path(str(Path.home() / "lamps")) == "~/lamps"
    assert figures.shown_path("org/model") == "org/model"
    assert figures.shown_path("") == ""
