"""Missing characters, and remote terminals."""

from __future__ import annotations

import codecs

import pytest

from mlxft_tui.terminal.connection import is_remote, lookalike


class TestMissingCharacters:
    @pytest.mark.parametrize(
        ("text", "written"),
        [
            ("┌─┐│", b"+-+|"),
            ("╭─╮╰─╯", b"+-++-+"),
            ("a\N{NO-BREAK SPACE}Apply", b"a Apply"),
            ("▕██▏ 91%", b"|##| 91%"),
            ("loss → 0.3 …", b"loss > 0.3 ~"),
            ("✓ ‖ ✗ ■", b"v = x #"),
            ("模型", b"????"),
        ],
    )
    def test_a_character_becomes_a_similar_one_of_equal_width(
        self, text: str, written: bytes
    ) -> None:
        codecs.register_error("lookalike", lookalike)
        assert text.encode("ascii", errors="lookalike") == written

    def test_encodable_characters_stay(self) -> None:
        codecs.register_error("lookalike", lookalike)
        assert "é×─".encode("latin-1", errors="lookalike") == b"\xe9\xd7-"


class TestRemote:
    @pytest.mark.parametrize("name", ["SSH_CONNECTION", "SSH_TTY"])
    def test_ssh_is_detected(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("SSH_CONNECTION", raising=False)
        monkeypatch.delenv("SSH_TTY", raising=False)
        assert not is_remote()
        monkeypatch.setenv(name, "10.0.0.1 22")
        assert is_remote()
