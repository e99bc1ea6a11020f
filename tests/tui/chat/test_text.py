"""The prompt line, and untrusted text."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from textual import events

from mlxft.engine.protocol import Chat
from mlxft_tui.chat.turn_view import TurnView
from support.chat_pilot import chatting


class TestKeys:
    async def test_digits_are_text_in_the_line_and_switch_screens_outside(
        self, tmp_path: Path
    ) -> None:
        async with chatting(tmp_path) as ui:
            await ui.pilot.press("3", "1")
            assert ui.line.text == "31"
            await ui.pilot.press("f3")
            assert ui.app.gone == ["train"]
            await ui.pilot.press("escape", "1")
            assert ui.app.gone == ["train", "data"]
            await ui.pilot.press("enter", "2")
            assert ui.line.text == "312"

    async def test_ctrl_j_inserts_a_new_line(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            await ui.pilot.press("a", "ctrl+j", "b")
            assert ui.line.text == "a\nb"

    @pytest.mark.parametrize(
        ("keys", "text"),
        [
            (("ctrl+a", "ctrl+k"), "first\n"),
            (("ctrl+u",), "first\n"),
            (("ctrl+a", "ctrl+e", "!"), f"first\n{'word ' * 100}!"),
        ],
    )
    async def test_line_keys_treat_a_wrapped_line_as_one(
        self, tmp_path: Path, keys: tuple[str, ...], text: str
    ) -> None:
        async with chatting(tmp_path, answer=lambda chat: f"first\n{'word ' * 100}") as ui:
            await ui.ask()
            await ui.pilot.press("escape", "c", *keys)
            assert ui.line.text == text


class TestInvisibleCharacters:
    async def test_edited_and_recalled_prompts_keep_invisible_characters(
        self, tmp_path: Path
    ) -> None:
        async with chatting(tmp_path) as ui:
            ui.app.post_message(events.Paste("a\tb\u200f"))
            await ui.pilot.press("enter")
            await ui.idle()
            await ui.pilot.press("escape", "e", "c", "enter")
            await ui.idle()
            await ui.pilot.press("up", "d", "enter")
            await ui.idle()
            asked = [each.question.messages[-1].content for each in ui.chats]
            assert asked == ["a\tb\u200f", "a\tb\u200fc", "a\tb\u200fcd"]

    async def test_an_edited_test_prompt_keeps_invisible_characters(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        record = json.dumps({"prompt": "a\tb", "completion": "c"})
        (tmp_path / "data" / "test.jsonl").write_text(record + "\n")
        async with chatting(tmp_path) as ui:
            await ui.pilot.press("escape", "n", "enter")
            await ui.idle()
            await ui.pilot.press("enter", "ctrl+n", "!", "enter")
            await ui.idle()
            asked = [each.question.messages[-1].content for each in ui.chats]
            assert asked == ["a\tb", "a\tb!"]
            turns = [view.turn for view in ui.app.screen.query(TurnView)]
            assert [turn.example is not None for turn in turns] == [True, False]


class TestUntrustedText:
    async def test_escape_sequences_are_shown_not_executed(self, tmp_path: Path) -> None:
        def hostile(chat: Chat) -> str:
            return "\x1b[2J\x1b]0;gone\x07 \u202egnorw <b>bold</b> [red]"

        async with chatting(tmp_path, answer=hostile) as ui:
            await ui.ask("Hello \x1b[31mred\x9b")
            shown = ui.text
            assert "␛[2J" in shown
            assert "<b>bold</b> [red]" in shown
            assert not any(
                ord(each) < 32 or 0x7F <= ord(each) < 0xA0 for each in shown if each != "\n"
            )

    async def test_line_breaks_are_kept(self, tmp_path: Path) -> None:
        async with chatting(tmp_path, answer=lambda chat: "one\ntwo\r\nthree") as ui:
            await ui.ask("Count")
            lines = [line.strip() for line in ui.text.splitlines()]
            assert [line for line in lines if line in ("one", "two", "three")] == [
                "one",
                "two",
                "three",
            ]

    async def test_a_very_long_line_is_wrapped(self, tmp_path: Path) -> None:
        async with chatting(tmp_path, answer=lambda chat: "x" * 10_000) as ui:
            await ui.ask("Hello")
            assert ui.answers == ["x" * 10_000]


HOSTILE = {
    "right to left": "שלום עולם \u202e\u2066 مرحبا بالعالم",
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈" * 200 + "é" + "\u0301" * 500,
    "nested quotes": ">" * 3000 + " deep",
    "nested lists": "".join("  " * n + "- x\n" for n in range(120)),
    "brackets": "[" * 5000 + "](" * 5000,
    "a table of a thousand columns": "|a" * 1000 + "|\n" + "|-" * 1000 + "|\n" + "|b" * 1000,
    "many lines": "- line\n" * 5000,
    "open fence": "```python\n" + "x = 1\n" * 500,
    "emphasis": "*a **b " * 2000,
    "sequences": "\x1b]52;c;aGk=\x07\x9b2J\x1b[?1049l" * 50,
}


class TestHostileText:
    @pytest.mark.parametrize("name", HOSTILE)
    async def test_the_screen_survives(self, tmp_path: Path, name: str) -> None:
        async with chatting(tmp_path, answer=lambda chat: HOSTILE[name]) as ui:
            await ui.ask("Hello")
            shown = ui.text
            assert "41.5 tok/s" in shown
            assert {each for each in shown if unicodedata.category(each) == "Cc"} <= {"\n"}
            await ui.pilot.press("escape", "enter")
            await ui.pilot.press("a")
            assert ui.line.text == "a"
