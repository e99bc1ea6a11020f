"""Rows of cells: their length, and what of them has changed."""

from __future__ import annotations

import pytest

from mlxft_tui.cells import (
    Row,
    cropped,
    differing_cells,
    heading,
    plain_text,
    thrifty,
    width_of,
    wrapped,
)


class TestLength:
    @pytest.mark.parametrize("width", [10, 24, 80])
    def test_a_heading_fills_its_line(self, width: int) -> None:
        row = heading((("loss", "strong"),), (("step 12", "muted"),), width)
        assert width_of(row) == width

    def test_a_heading_without_a_note_is_ruled_to_its_end(self) -> None:
        assert plain_text(heading((("log", "strong"),), (), 12)) == "─ log ──────"

    def test_a_note_without_room_is_left_out(self) -> None:
        row = heading((("loss 1.234", "strong"),), (("step 12", "muted"),), 20)
        assert plain_text(row) == "─ loss 1.234 ───────"

    def test_what_is_cropped_says_so(self) -> None:
        assert plain_text(cropped((("a long name", "plain"),), 6)) == "a lon…"

    def test_wide_characters_count_as_two(self) -> None:
        assert width_of(cropped((("模型模型模型", "plain"),), 7)) <= 7

    def test_long_text_takes_more_rows(self) -> None:
        rows = wrapped("one two three four", "plain", 9)
        assert [plain_text(row) for row in rows] == ["one two", "three", "four"]


class TestChange:
    def test_the_same_row_has_not_changed(self) -> None:
        row: Row = (("loss 1.2", "plain"),)
        assert differing_cells(row, (("loss ", "plain"), ("1.2", "plain"))) == 0

    def test_a_change_counts_up_to_its_last_cell(self) -> None:
        before: Row = (("step 12  loss", "plain"),)
        assert differing_cells(before, (("step 13  loss", "plain"),)) == 7

    def test_another_role_is_a_change(self) -> None:
        assert differing_cells((("ab", "plain"),), (("ab", "bad"),)) == 2

    def test_a_shorter_row_leaves_cells_to_blank(self) -> None:
        assert differing_cells((("abcd", "plain"),), (("ab", "plain"),)) == 4

    def test_blanks_take_the_role_before_them(self) -> None:
        row: Row = (("a", "bad"), ("  ", "plain"), ("b", "bad"))
        assert thrifty(row) == (("a  b", "bad"),)
