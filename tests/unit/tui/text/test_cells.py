"""Rows of cells and their width."""

from __future__ import annotations

import pytest

from mlxft_tui.text.cells import cropped, heading, plain_text, shortened, width_of, wrapped


class TestWidth:
    @pytest.mark.parametrize("width", [10, 24, 80])
    def test_a_heading_fills_its_line(self, width: int) -> None:
        row = heading((("loss", "strong"),), (("step 12", "muted"),), width)
        assert width_of(row) == width

    def test_a_heading_without_a_note_is_ruled_to_its_end(self) -> None:
        assert plain_text(heading((("log", "strong"),), (), 12)) == "─ log ──────"

    def test_a_note_that_does_not_fit_is_left_out(self) -> None:
        row = heading((("loss 1.234", "strong"),), (("step 12", "muted"),), 20)
        assert plain_text(row) == "─ loss 1.234 ───────"

    def test_cropped_text_ends_in_an_ellipsis(self) -> None:
        assert plain_text(cropped((("a long name", "plain"),), 6)) == "a lon…"

    def test_wide_characters_count_as_two_cells(self) -> None:
        assert width_of(cropped((("模型模型模型", "plain"),), 7)) <= 7

    def test_long_text_is_wrapped(self) -> None:
        rows = wrapped("one two three four", "plain", 9)
        assert [plain_text(row) for row in rows] == ["one two", "three", "four"]

    def test_wide_characters_are_wrapped_by_cells(self) -> None:
        rows = wrapped("模型模型模型模型", "plain", 6)
        assert [plain_text(row) for row in rows] == ["模型模", "型模型", "模型"]


def test_a_name_keeps_its_beginning_and_its_end() -> None:
    assert shortened("smollm2-lora-12", 15) == "smollm2-lora-12"
    assert shortened("smollm2-lora-12", 9) == "smol…a-12"
    assert shortened("日本語のモデル", 7) == "日本…ル"
