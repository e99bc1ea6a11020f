"""The escape key is separated from sequences and Alt, however quickly the next key follows."""

from __future__ import annotations

import pytest
from textual.events import Key

from mlxft_tui.terminal.driver import KeyParser
from mlxft_tui.terminal.escapes import Escapes
from mlxft_tui.terminal.pastes import Input


def pieces(*reads: str, alt_keys: frozenset[str] = frozenset()) -> list[str]:
    """What the reads are split into, after a silence."""
    escapes = Escapes(alt_keys)
    parts = [piece for text in reads for piece in escapes.split(Input(text, False))]
    return [text for text, _ in (*parts, *escapes.flush())]


class TestEscapes:
    @pytest.mark.parametrize("key", ["j", "3", "/", "]", "\r", "é"])
    def test_a_key_after_escape_is_separate(self, key: str) -> None:
        expected = ["\x1b", key]
        assert pieces(f"\x1b{key}") == expected
        assert pieces("\x1b", key) == expected
        assert pieces(f"hi\x1b{key}") == ["hi", *expected]

    @pytest.mark.parametrize("sequence", ["\x1b[A", "\x1bOP", "\x1b[1;5C", "\x1b[<0;1;1M"])
    def test_a_sequence_stays_whole(self, sequence: str) -> None:
        assert pieces(sequence) == [sequence]
        assert pieces(sequence[0], sequence[1:]) == [sequence]
        assert pieces(f"\x1b{sequence}q") == ["\x1b", f"{sequence}q"]

    def test_several_escapes_are_several_keys(self) -> None:
        assert pieces("\x1b\x1b") == ["\x1b", "\x1b"]

    def test_alt_with_an_arrow_arrives_in_one_read(self) -> None:
        assert pieces("\x1bb\x1bb") == ["\x1bb\x1bb"]
        assert pieces("\x1b", "b") == ["\x1b", "b"]

    def test_a_key_that_the_user_bound_with_alt_stays_one(self) -> None:
        assert pieces("\x1bj", alt_keys=frozenset("j")) == ["\x1bj"]

    def test_a_paste_comes_after_the_escape_before_it(self) -> None:
        escapes = Escapes()
        assert escapes.split(Input("\x1b", False)) == []
        assert escapes.split(Input("j", True)) == [("\x1b", False), ("j", True)]


class TestKeyParser:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("\x1b[", ["escape", "left_square_bracket"]),
            ("\x1bO", ["escape", "O"]),
            ("\x1bj", ["alt+j"]),
        ],
    )
    def test_an_escape_before_what_is_no_sequence_is_kept(
        self, monkeypatch: pytest.MonkeyPatch, text: str, expected: list[str]
    ) -> None:
        monkeypatch.setattr("textual.constants.ESCAPE_DELAY", 0)
        parser = KeyParser()
        messages = [*parser.feed(text), *parser.tick()]
        assert [each.key for each in messages if isinstance(each, Key)] == expected
