"""Pastes are told from keys, whatever they hold and however they are cut."""

from __future__ import annotations

import pytest

from mlxft_tui.terminal.pastes import BEGIN, END, Pastes

HOLDS = ["text", "two\nlines", "\x1b[31mred\x1b[0m and plain", "\x1b", "\x1b[20", "[200~", ""]


class TestPastes:
    @pytest.mark.parametrize("held", HOLDS)
    def test_a_paste_comes_whole_and_once_though_it_is_read_sign_by_sign(self, held: str) -> None:
        pastes = Pastes()
        parts = pastes.parted(f"a{BEGIN}")
        for sign in f"{held}{END}":
            parts += pastes.parted(sign)
        assert parts == [("a", False), (held, True)]

    @pytest.mark.parametrize("cut", range(2, len(BEGIN)))
    def test_its_beginning_may_be_cut_in_two(self, cut: int) -> None:
        pastes = Pastes()
        assert pastes.parted(BEGIN[:cut]) == []
        assert pastes.parted(f"{BEGIN[cut:]}held{END}b") == [("held", True), ("b", False)]

    def test_keys_and_pastes_keep_their_order(self) -> None:
        parts = Pastes().parted(f"x{BEGIN}1{END}y{BEGIN}2{END}z")
        assert parts == [("x", False), ("1", True), ("y", False), ("2", True), ("z", False)]

    def test_an_escape_is_a_key_at_once(self) -> None:
        assert Pastes().parted("\x1b") == [("\x1b", False)]

    def test_what_only_looked_like_a_mark_is_typed_after_a_moment(self) -> None:
        pastes = Pastes()
        assert pastes.parted("\x1b[2") == []
        assert pastes.waited() == [("\x1b[2", False)]
        assert pastes.waited() == []

    def test_a_paste_whose_end_is_lost_can_be_ended(self) -> None:
        pastes = Pastes()
        assert pastes.parted(f"{BEGIN}never ended\x1b[20") == []
        assert pastes.waited() == []
        assert pastes.cut() == [("never ended\x1b[20", True)]
        assert pastes.parted("q") == [("q", False)]

    def test_the_rest_of_a_paste_that_was_cut_is_pasted_too(self) -> None:
        pastes = Pastes()
        pastes.parted(f"{BEGIN}one ")
        assert pastes.cut() == [("one ", True)]
        assert pastes.parted(f"two\rthree{END}q") == [("two\rthree", True), ("q", False)]

    @pytest.mark.parametrize("pieces", [[f"q{BEGIN}new{END}"], [f"q{BEGIN}", f"new{END}"]])
    def test_another_paste_after_one_that_was_cut_is_its_own(self, pieces: list[str]) -> None:
        pastes = Pastes()
        pastes.parted(f"{BEGIN}one ")
        pastes.cut()
        parts = [part for piece in pieces for part in pastes.parted(piece)]
        assert parts == [("q", False), ("new", True)]
