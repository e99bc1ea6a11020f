"""The end of an answer at a named text."""

from __future__ import annotations

import pytest

from mlxft.conversation.stop_strings import StopStrings


def passed(stops: tuple[str, ...], pieces: list[str]) -> str:
    found = StopStrings(stops)
    return "".join([*(found.passed(piece) for piece in pieces), found.rest()])


class TestStopStrings:
    @pytest.mark.parametrize("size", [1, 2, 3, 100])
    def test_the_answer_ends_before_it_however_it_is_cut(self, size: int) -> None:
        text = "one END two"
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        assert passed(("END",), pieces) == "one "

    def test_the_first_to_come_counts(self) -> None:
        assert passed(("two", "one"), ["zero one two"]) == "zero "

    def test_what_only_begins_like_one_is_text(self) -> None:
        assert passed(("END",), ["E", "N", "d", "EN"]) == "ENdEN"

    def test_nothing_waits_that_can_be_none(self) -> None:
        found = StopStrings(("END",))
        assert found.passed("abcE") == "abc"
        assert found.passed("F") == "EF"
