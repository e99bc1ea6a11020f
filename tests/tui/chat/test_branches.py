"""Edited and retried prompts, and picked answers."""

from __future__ import annotations

import asyncio
from pathlib import Path

from mlxft.conversation.messages import Message
from mlxft_tui.chat.turn_view import TurnView
from support.chat_pilot import BASE_ANSWER, EXPECTED, PROMPT, chatting, records_of, with_examples


class TestBranches:
    async def test_an_edited_prompt_replaces_the_original_in_the_request(
        self, tmp_path: Path
    ) -> None:
        async with chatting(tmp_path) as ui:
            await ui.ask("Hello")
            await ui.ask("And now?")
            await ui.pilot.press("escape", "e")
            assert ui.line.text == "And now?"
            await ui.ask("And then?")
            chat = ui.chats[2]
            contents = [each.content for each in chat.question.messages]
            assert contents == ["Hello", EXPECTED, "And then?"]
            assert "And then?  2 of 2" in ui.text

    async def test_the_old_branch_is_kept(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            await ui.ask("One")
            await ui.pilot.press("escape", "e")
            await ui.ask("Two")
            await ui.pilot.press("escape", "left_square_bracket")
            await ui.idle()
            assert ui.prompts == ["One"]
            assert ui.answers == [EXPECTED]
            assert "One  1 of 2" in ui.text

    async def test_a_retry_keeps_a_complete_answer_in_its_branch(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            await ui.ask("One")
            ui.engine.holds = asyncio.Event()
            await ui.pilot.press("ctrl+r")
            await ui.until(lambda: ui.answers == ['{"item":'])
            await ui.pilot.press("escape")
            await ui.idle()
            await ui.pilot.press("escape", "left_square_bracket")
            await ui.idle()
            assert ui.answers == [EXPECTED]
            assert "One  1 of 2" in ui.text

    async def test_a_retry_replaces_a_stopped_answer(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            await ui.ask_and_stop()
            ui.engine.holds = None
            await ui.pilot.press("ctrl+r")
            await ui.idle()
            assert ui.answers == [EXPECTED]
            assert "2 of 2" not in ui.text
        async with chatting(tmp_path) as ui:
            await ui.reopen()
            assert ui.answers == [EXPECTED]
            assert "2 of 2" not in ui.text

    async def test_an_edited_test_prompt_is_still_sent_alone(self, tmp_path: Path) -> None:
        with_examples(tmp_path)
        async with chatting(tmp_path) as ui:
            await ui.ask("Hello")
            await ui.pilot.press("ctrl+n", "enter")
            await ui.idle()
            await ui.pilot.press("escape", "e")
            await ui.ask(f"{PROMPT}!")
            assert ui.chats[-1].question.messages == (Message("user", f"{PROMPT}!"),)
            assert "expected" not in ui.statuses[-1]

    async def test_an_unchanged_test_prompt_still_expects_its_answer(self, tmp_path: Path) -> None:
        with_examples(tmp_path)
        async with chatting(tmp_path) as ui:
            await ui.ask("Hello")
            await ui.pilot.press("ctrl+n", "enter")
            await ui.idle()
            await ui.pilot.press("escape", "e", "enter")
            await ui.idle()
            assert ui.chats[-1].question.messages == (Message("user", PROMPT),)
            assert ui.statuses[-1].startswith("✓ as expected")
            assert f"{PROMPT}  2 of 2" in ui.text

    async def test_an_edit_branches_at_its_turn_whatever_is_in_view(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            await ui.ask("One")
            await ui.ask("Two")
            await ui.pilot.press("escape", "shift+up", "shift+up", "e")
            await ui.ask("Uno")
            await ui.pilot.press("escape", "e", "tab", "left_square_bracket")
            await ui.idle()
            prompts = ui.prompts
            assert prompts == ["One", "Two"]
            ui.line.focus()
            await ui.ask("1")
            prompts = ui.prompts
            assert prompts == ["1"]
            assert "1  3 of 3" in ui.text
            assert [each.content for each in ui.chats[-1].question.messages] == ["1"]

    async def test_an_edit_of_a_later_turn_shows_its_branch(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            await ui.ask("One")
            await ui.pilot.press("escape", "e")
            await ui.ask("Uno")
            await ui.ask("Due")
            await ui.pilot.press("escape", "e", "tab")
            await ui.pilot.press("shift+up", "shift+up", "left_square_bracket")
            await ui.idle()
            ui.line.focus()
            await ui.ask("2")
            prompts = ui.prompts
            assert prompts == ["Uno", "2"]

    async def test_a_new_conversation_cancels_an_edit(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            await ui.ask("One")
            await ui.pilot.press(*"draft", "escape", "e", "ctrl+l")
            await ui.idle()
            assert ui.line.text == "draft"
            await ui.ask("Two")
            prompts = ui.prompts
            assert prompts == ["Two"]

    async def test_esc_cancels_an_edit(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            await ui.ask("One")
            await ui.pilot.press("escape", "e", "escape", "enter")
            await ui.ask("Two")
            assert len(ui.app.screen.query(TurnView)) == 2


class TestPicking:
    async def test_an_earlier_prompt_is_edited_in_a_branch(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            for prompt in ("One", "Two", "Three"):
                await ui.ask(prompt)
            await ui.pilot.press("escape", "shift+up", "shift+up", "e")
            assert ui.line.text == "Two"
            await ui.ask("2")
            prompts = ui.prompts
            assert prompts == ["One", "2"]
            await ui.pilot.press("escape", "left_square_bracket")
            await ui.idle()
            prompts = ui.prompts
            assert prompts == ["One", "Two", "Three"]

    async def test_an_earlier_prompt_is_retried_in_a_branch(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            await ui.ask("One")
            await ui.ask("Two")
            await ui.pilot.press("escape", "shift+up", "shift+up", "r")
            await ui.idle()
            (view,) = ui.app.screen.query(TurnView)
            assert view.turn.prompt == "One"
            assert "One  2 of 2" in ui.text
            assert [chat.question.sampling.seed for chat in ui.chats] == [0, 0, 1]

    async def test_the_answer_beside_can_be_picked_and_copied(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            await ui.pilot.press("ctrl+b")
            await ui.ask()
            await ui.pilot.press("escape", "y")
            assert ui.app.clipboard == EXPECTED
            await ui.pilot.press("shift+up", "shift+left")
            assert "▸ base" in ui.text
            await ui.pilot.press("y")
            assert ui.app.clipboard == BASE_ANSWER

    async def test_an_earlier_answer_is_corrected_without_later_turns(self, tmp_path: Path) -> None:
        with_examples(tmp_path)
        async with chatting(tmp_path) as ui:
            await ui.ask("One")
            await ui.ask("Two")
            await ui.pilot.press("escape", "shift+up", "shift+up", "c")
            await ui.ask("1")
            await ui.idle()
            (record,) = records_of(tmp_path / "data" / "train.jsonl")
            assert [each["content"] for each in record["messages"]] == ["One", "1"]
