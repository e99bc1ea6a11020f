"""Prompts of the test set in the line, and drafts around them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxft_tui.chat.turn_view import APART
from support.chat_pilot import EXPECTED, PROMPT, chatting, with_examples


class TestTestPrompts:
    async def test_a_test_prompt_shows_the_expected_answer(self, tmp_path: Path) -> None:
        with_examples(tmp_path)
        async with chatting(tmp_path) as ui:
            await ui.press("ctrl+n")
            assert ui.line.text == PROMPT
            assert "test.jsonl line 1 expects" in ui.text
            await ui.pilot.press("enter")
            await ui.idle()
            assert ui.statuses[0].startswith("✓ as expected")
            assert EXPECTED in ui.text

    async def test_the_key_steps_through_the_test_set_and_wraps_around(
        self, tmp_path: Path
    ) -> None:
        with_examples(tmp_path)
        async with chatting(tmp_path) as ui:
            prompts = []
            for _ in range(3):
                await ui.pilot.press("ctrl+n")
                prompts.append(ui.line.text)
            assert prompts == [PROMPT, "Request to JSON: Wake me at 7", PROMPT]

    async def test_outside_the_line_keys_step_and_send(self, tmp_path: Path) -> None:
        with_examples(tmp_path)
        async with chatting(tmp_path) as ui:
            await ui.pilot.press("escape", "n", "n", "p", "enter")
            await ui.idle()
            await ui.pilot.press("n", "enter")
            await ui.idle()
            prompts = ui.prompts
            assert prompts == [PROMPT, "Request to JSON: Wake me at 7"]

    @pytest.mark.parametrize("width", [80, 120])
    async def test_the_expected_answer_is_beside_the_answers_on_wide_screens(
        self, tmp_path: Path, width: int
    ) -> None:
        with_examples(tmp_path)
        async with chatting(tmp_path, size=(width, 40)) as ui:
            await ui.pilot.press("ctrl+n", "enter")
            await ui.idle()
            rows = [row for row in ui.text.splitlines() if EXPECTED in row]
            assert [row.count(EXPECTED) for row in rows] == ([2] if width == 120 else [1, 1])

    async def test_a_test_prompt_within_a_conversation_is_marked_as_sent_alone(
        self, tmp_path: Path
    ) -> None:
        with_examples(tmp_path)
        async with chatting(tmp_path) as ui:
            await ui.pilot.press("ctrl+n", "enter")
            await ui.idle()
            assert APART not in ui.text
            await ui.ask("And now?")
            await ui.pilot.press("ctrl+n", "enter")
            await ui.idle()
            await ui.ask("And then?")
            assert ui.text.count(APART) == 1
            sent = [each.content for each in ui.chats[-1].question.messages]
            assert sent == ["Request to JSON: Wake me at 7", EXPECTED, "And then?"]
            await ui.pilot.press("escape", "shift+up", "shift+up", "e", "enter")
            await ui.idle()
            assert ui.text.count(APART) == 1

    async def test_a_project_without_test_prompts_says_so(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            await ui.press("ctrl+n")
            assert "test.jsonl and valid.jsonl are missing" in ui.notice_text


class TestDraft:
    """The text in the line while something else takes its place."""

    async def test_is_restored_after_a_correction_or_an_edit(self, tmp_path: Path) -> None:
        with_examples(tmp_path)
        async with chatting(tmp_path) as ui:
            line = ui.line
            await ui.ask("One")
            for key, end in (("c", "enter"), ("c", "escape"), ("e", "escape"), ("e", "enter")):
                line.put("")
                await ui.pilot.press(*"draft", "escape", key)
                assert line.text == (EXPECTED if key == "c" else "One")
                await ui.pilot.press(end)
                await ui.idle()
                assert line.text == "draft", (key, end)
                await ui.pilot.press("escape", "enter")

    async def test_is_restored_after_a_second_edit_is_cancelled(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            await ui.ask("One")
            await ui.pilot.press(*"draft", "escape", "e", "escape", "e", "escape")
            assert ui.line.text == "draft"

    async def test_is_restored_after_a_test_prompt(self, tmp_path: Path) -> None:
        with_examples(tmp_path)
        async with chatting(tmp_path) as ui:
            line = ui.line
            await ui.pilot.press(*"draft", "escape", "n", "n", "p", "enter")
            await ui.idle()
            assert ui.prompts == [PROMPT]
            assert line.text == "draft"
