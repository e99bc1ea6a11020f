"""Answers end at stop strings."""

from __future__ import annotations

import pytest

from mlxft.conversation.stop_strings import StopStrings


def filtered(stops: tuple[str, ...], pieces: list[str]) -> str:
    found = StopStrings(stops)
    return "".join([*(found.filter(piece) for piece in pieces), found.flush()])


class TestStopStrings:
    @pytest.mark.parametrize("size", [1, 2, 3, 100])
    def test_the_answer_ends_before_it_however_it_is_split(self, size: int) -> None:
        text = "one END two"
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        assert filtered(("END",), pieces) == "one "

    def test_the_first_one_found_counts(self) -> None:
        assert filtered(("two", "one"), ["zero one two"]) == "zero "

    def test_a_mere_beginning_of_one_is_text(self) -> None:
        assert filtered(("END",), ["E", "N", "d", "EN"]) == "ENdEN"

    def test_only_a_possible_beginning_is_held_back(self) -> None:
        found = StopStrings(("END",))
        assert found.filter("abcE") == "abc"
        assert found.filter("F") == "EF"
