"""The validation curve of an export."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from mlxft.export.curve import curve_svg

SVG = "{http://www.w3.org/2000/svg}"


def points_of(svg: str) -> list[tuple[float, float]]:
    """Where the losses are drawn."""
    circles = ElementTree.fromstring(svg).iter(f"{SVG}circle")
    return [(float(each.attrib["cx"]), float(each.attrib["cy"])) for each in circles]


def test_lower_losses_are_drawn_lower_and_later_steps_further_right() -> None:
    points = points_of(curve_svg([(0, 2.3), (20, 0.9), (40, 0.4)]))
    assert points == sorted(points)
    assert [y for _, y in points] == sorted(y for _, y in points)


def test_the_axes_are_labelled_with_round_numbers_around_the_losses() -> None:
    picture = ElementTree.fromstring(curve_svg([(0, 2.3), (60, 0.4)]))
    texts = {each.text for each in picture.iter(f"{SVG}text")}
    assert {"step", "validation loss", "0", "60", "0.5", "2.5"} <= texts


@pytest.mark.parametrize(
    "points", [[(5, 1.0)], [(0, 0.0), (1, 0.0)], [(0, 1e-9), (9, 1e6)], [(3, 2.0), (6, math.nan)]]
)
def test_every_point_is_inside_the_picture(points: list[tuple[int, float]]) -> None:
    svg = curve_svg(points)
    finite = [loss for _, loss in points if math.isfinite(loss)]
    drawn = points_of(svg)
    assert len(drawn) == len(finite)
    assert all(0 < x < 640 and 0 < y < 360 for x, y in drawn)
    assert not re.search("nan|inf", svg)


def test_there_is_no_picture_without_a_finite_loss() -> None:
    assert curve_svg([]) == curve_svg([(1, math.inf)]) == ""
