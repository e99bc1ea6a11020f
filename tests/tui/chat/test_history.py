"""Past conversations and earlier prompts."""

from __future__ import annotations

from pathlib import Path

from mlxft_tui.chat.conversation_dialog import ConversationDialog
from support.chat_pilot import BASE_ANSWER, EXPECTED, chatting, remembered, with_examples


class TestHistory:
    async def test_a_past_conversation_can_be_continued(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            await ui.ask("One")
            await ui.pilot.press("ctrl+b")
            await ui.ask("Two")
        async with chatting(tmp_path) as ui:
            await ui.press("escape", "h")
            assert "2 prompts    One" in ui.text
            await ui.pilot.press("enter")
            await ui.idle()
            assert ui.answers == [EXPECTED, BASE_ANSWER, EXPECTED]
            await ui.pilot.press("enter")
            await ui.ask("Three")
            chat = ui.chat
            contents = [each.content for each in chat.question.messages]
            assert contents == ["One", EXPECTED, "Two", EXPECTED, "Three"]
        async with chatting(tmp_path) as ui:
            await ui.press("escape", "h")
            assert "3 prompts    One" in ui.text

    async def test_a_refused_prompt_keeps_its_place(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            ui.engine.refuses = "The run is not training yet."
            await ui.ask("One")
            ui.engine.refuses = None
            await ui.ask("Two")
        async with chatting(tmp_path) as ui:
            await ui.reopen()
            prompts = ui.prompts
            assert prompts == ["One", "Two"]

    async def test_verdicts_and_stops_are_shown_again(self, tmp_path: Path) -> None:
        with_examples(tmp_path)
        async with chatting(tmp_path) as ui:
            await ui.pilot.press("ctrl+n", "enter")
            await ui.idle()
        async with chatting(tmp_path) as ui:
            await ui.ask_and_stop()
        for keys, status in ((("enter",), "✓ as expected"), (("down", "enter"), "stopped")):
            async with chatting(tmp_path) as ui:
                await ui.press("escape", "h")
                await ui.pilot.press(*keys)
                await ui.idle()
                assert ui.statuses == [status]

    async def test_a_past_conversation_is_deleted_once_confirmed(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            for prompt in ("One", "Two"):
                await ui.ask(prompt)
                await ui.press("escape", "ctrl+l", "i")
            await ui.press("escape", "h")
            await ui.until(lambda: isinstance(ui.app.screen, ConversationDialog))
            await ui.press("d", "n")
            assert [prompt for prompt, *_ in remembered(tmp_path)] == ["One", "Two"]
            await ui.press("d")
            assert "Delete the conversation “One”?" in ui.text
            await ui.press("y")
            assert [prompt for prompt, *_ in remembered(tmp_path)] == ["Two"]
            await ui.press("enter")
            await ui.idle()
            assert ui.prompts == ["Two"]

    async def test_a_project_without_conversations_says_so(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            await ui.press("escape", "h")
            await ui.idle()
            assert "There are no past conversations yet" in ui.text


class TestRecall:
    async def test_prompts_of_earlier_sessions_are_recalled(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            await ui.ask("One")
            await ui.ask("Two")
        async with chatting(tmp_path) as ui:
            line = ui.line
            seen = []
            for key in ("up", "up", "down", "down"):
                await ui.pilot.press(key)
                seen.append(line.text)
            assert seen == ["Two", "One", "Two", ""]
