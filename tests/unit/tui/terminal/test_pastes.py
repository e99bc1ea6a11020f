"""Pastes are separated from keys, whatever they contain and however they are split."""

from __future__ import annotations

import pytest

from mlxft_tui.terminal.pastes import BEGIN, END, Pastes

CONTENTS = ["text", "two\nlines", "\x1b[31mred\x1b[0m and plain", "\x1b", "\x1b[20", "[200~", ""]


class TestPastes:
    @pytest.mark.parametrize("content", CONTENTS)
    def test_a_paste_read_one_character_at_a_time_is_returned_whole(self, content: str) -> None:
        pastes = Pastes()
        parts = pastes.feed(f"a{BEGIN}")
        for character in f"{content}{END}":
            parts += pastes.feed(character)
        assert parts == [("a", False), (content, True)]

    @pytest.mark.parametrize("cut", range(2, len(BEGIN)))
    def test_its_start_mark_may_be_split(self, cut: int) -> None:
        pastes = Pastes()
        assert pastes.feed(BEGIN[:cut]) == []
        assert pastes.feed(f"{BEGIN[cut:]}held{END}b") == [("held", True), ("b", False)]

    def test_keys_and_pastes_keep_their_order(self) -> None:
        parts = Pastes().feed(f"x{BEGIN}1{END}y{BEGIN}2{END}z")
        assert parts == [("x", False), ("1", True), ("y", False), ("2", True), ("z", False)]

    def test_an_escape_is_a_key_immediately(self) -> None:
        assert Pastes().feed("\x1b") == [("\x1b", False)]

    def test_an_incomplete_mark_is_keys_after_a_flush(self) -> None:
        pastes = Pastes()
        assert pastes.feed("\x1b[2") == []
        assert pastes.flush() == [("\x1b[2", False)]
        assert pastes.flush() == []

    def test_a_paste_without_an_end_can_be_cut(self) -> None:
        pastes = Pastes()
        assert pastes.feed(f"{BEGIN}never ended\x1b[20") == []
        assert pastes.flush() == []
        assert pastes.cut() == [("never ended\x1b[20", True)]
        assert pastes.feed("q") == [("q", False)]

    def test_the_rest_of_a_cut_paste_is_pasted(self) -> None:
        pastes = Pastes()
        pastes.feed(f"{BEGIN}one ")
        assert pastes.cut() == [("one ", True)]
        assert pastes.feed(f"two\rthree{END}q") == [("two\rthree", True), ("q", False)]

    @pytest.mark.parametrize("pieces", [[f"q{BEGIN}new{END}"], [f"q{BEGIN}", f"new{END}"]])
    def test_a_new_paste_after_a_cut_one_is_separate(self, pieces: list[str]) -> None:
        pastes = Pastes()
        pastes.feed(f"{BEGIN}one ")
        pastes.cut()
        parts = [part for piece in pieces for part in pastes.feed(piece)]
        assert parts == [("q", False), ("new", True)]
