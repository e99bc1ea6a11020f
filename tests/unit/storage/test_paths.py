"""Paths as a person writes them."""

from __future__ import annotations

from pathlib import Path

from mlxft.storage.paths import expanded


class TestExpanded:
    def test_a_tilde_is_the_home(self) -> None:
        assert expanded("~/models/m") == Path.home() / "models" / "m"

    def test_an_unknown_user_is_left_as_it_is(self) -> None:
        assert expanded("~nobody-here/m") == Path("~nobody-here/m")
