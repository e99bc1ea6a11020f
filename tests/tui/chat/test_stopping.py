"""Answers that are stopped, refused or lost."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from mlxft import recipe as recipes
from mlxft.conversation.messages import Message
from mlxft.engine.protocol import Chat, OpenModel
from mlxft.runs import events as ev
from mlxft_tui.chat.conversation_view import ConversationView
from support.chat_pilot import (
    BASE_ANSWER,
    EXPECTED,
    PROMPT,
    chatting,
    remembered,
    with_adapter,
    with_examples,
)
from support.journal import RUN_RECIPE


class TestStopping:
    async def test_esc_stops_the_answer_and_keeps_the_text(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            await ui.send_until()
            await ui.pilot.press("escape")
            await ui.idle()
            assert ui.answers == ['{"item":']
            assert ui.statuses[0].endswith("stopped")

    async def test_esc_stops_both_answers(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            ui.engine.holds = asyncio.Event()
            await ui.pilot.press("ctrl+b")
            await ui.send()
            await ui.until(lambda: bool(ui.answers and ui.answers[0]))
            await ui.pilot.press("escape")
            await ui.idle()
            assert len(ui.engine.asked) == 1

    async def test_esc_cancels_the_opening_of_a_model(self, tmp_path: Path) -> None:
        with_adapter(tmp_path)
        other = recipes.replace(RUN_RECIPE, "model", "another/model")
        async with chatting(tmp_path, "finished", other) as ui:
            ui.engine.downloads = True
            await ui.send()
            await ui.until(lambda: ui.statuses == ["downloading 10%"])
            await ui.pilot.press("escape")
            await ui.idle()
            assert ui.statuses == ["stopped  ^r retries"]
            assert ui.engine.cancelled()
            ui.engine.downloads = False
            await ui.pilot.press("ctrl+r")
            await ui.idle()
            assert ui.answers == [EXPECTED]

    async def test_esc_cancels_the_opening_of_a_model_for_an_evaluation(
        self, tmp_path: Path
    ) -> None:
        with_adapter(tmp_path)
        with_examples(tmp_path)
        other = recipes.replace(RUN_RECIPE, "model", "another/model")
        async with chatting(tmp_path, "finished", other) as ui:
            ui.engine.downloads = True
            await ui.press("escape", "v", "enter")
            await ui.until(lambda: "downloading 10%" in ui.text)
            await ui.pilot.press("escape")
            await ui.idle()
            assert "Evaluation cancelled. v starts it again." in ui.text
            assert ui.engine.cancelled()

    async def test_clear_starts_a_new_conversation(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            await ui.ask("Hello")
            await ui.pilot.press("ctrl+l")
            await ui.ask("And now?")
            chat = ui.chats[1]
            assert chat.question.messages == (Message("user", "And now?"),)


class TestUnfinished:
    async def test_quitting_saves_the_prompt_and_the_partial_answer(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            await ui.send_until()
            ui.app.exit()
        assert remembered(tmp_path) == [(PROMPT, '{"item":', "cancelled")]

    async def test_quitting_while_a_model_is_opening_saves_the_prompt(self, tmp_path: Path) -> None:
        with_adapter(tmp_path)
        other = recipes.replace(RUN_RECIPE, "model", "another/model")
        async with chatting(tmp_path, "finished", other) as ui:
            ui.engine.downloads = True
            await ui.send()
            await ui.until(lambda: ui.statuses == ["downloading 10%"])
            ui.app.exit()
        assert remembered(tmp_path) == [(PROMPT, "", "cancelled")]

    async def test_a_dying_engine_leaves_the_partial_answer_with_its_thinking(
        self, tmp_path: Path
    ) -> None:
        async with chatting(tmp_path, answer=lambda chat: "<think>hm</think>Yes, indeed.") as ui:
            await ui.send_until("Yes,")
            ui.engine.hang_up()
            await ui.idle()
        assert remembered(tmp_path) == [(PROMPT, "<think>hm</think>Yes,", "cancelled")]

    async def test_correcting_a_stopped_answer_warns_that_its_end_is_missing(
        self, tmp_path: Path
    ) -> None:
        async with chatting(tmp_path) as ui:
            await ui.ask_and_stop()
            await ui.pilot.press("escape", "c")
            assert "Stopped early: the end is missing." in ui.text

    async def test_an_answer_that_failed_at_once_can_not_be_copied_or_corrected(
        self, tmp_path: Path
    ) -> None:
        async with chatting(tmp_path) as ui:
            ui.engine.refuses = "The run is not training yet."
            await ui.ask()
            await ui.pilot.press("escape")
            for key in ("y", "c"):
                ui.notices.clear()
                await ui.pilot.press(key)
                assert "There is no answer yet" in ui.notice_text
            assert not ui.app.clipboard

    async def test_keys_disabled_while_answering_say_why(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            await ui.ask("One")
            await ui.send_until()
            ui.app.screen.query_one(ConversationView).focus()
            for key in ("c", "e", "h", "x"):
                ui.notices.clear()
                await ui.pilot.press(key)
                assert ui.notices == ["Answering… esc stops"], key
            await ui.pilot.press("escape")
            await ui.idle()


class TestLostEngine:
    async def test_a_dying_engine_leaves_the_partial_answer_and_a_remedy(
        self, tmp_path: Path
    ) -> None:
        async with chatting(tmp_path) as ui:
            await ui.send_until()
            ui.engine.hang_up()
            await ui.idle()
            assert ui.answers == ['{"item":']
            assert "has exited" in ui.statuses[0]
            assert "engine.log may say why. The Train screen resumes" in ui.statuses[0]
            assert ui.statuses[0].endswith("^r retries.")
            ui.engine.holds = None
            await ui.pilot.press("ctrl+r")
            await ui.idle()
            assert ui.answers == [EXPECTED]

    async def test_a_notice_names_the_replacement_of_an_unsaved_adapter(
        self, tmp_path: Path
    ) -> None:
        async with chatting(tmp_path) as ui:
            await ui.ask()
            run = ui.screen.run
            assert run is not None
            ui.app.publish(run=replace(run, state="lost"))
            await ui.pilot.press("ctrl+r")
            await ui.idle()
            assert ui.answers == [BASE_ANSWER]
            assert any(
                "adapter · step 60 is gone, since it was never saved" in each for each in ui.notices
            )
            assert any(each.endswith("using base instead.") for each in ui.notices)
            ui.notices.clear()
            await ui.pilot.press("ctrl+r")
            await ui.idle()
            assert not ui.notices

    async def test_after_a_killed_engine_the_saved_adapter_answers(self, tmp_path: Path) -> None:
        with_adapter(tmp_path)
        saved = ev.CheckpointSaved(step=50, path="checkpoints/0000050")
        async with chatting(tmp_path, then=[saved]) as ui:
            await ui.ask()
            run = ui.screen.run
            assert run is not None
            ui.app.publish(run=replace(run, state="lost"))
            await ui.pilot.press("ctrl+r")
            await ui.idle()
            assert ui.answers == [EXPECTED]
            assert "adapter · step 50" in ui.text

    async def test_a_restarted_service_opens_the_model_first(self, tmp_path: Path) -> None:
        async with chatting(tmp_path, None) as ui:
            await ui.screen.session.service()
            ui.engine.hang_up()
            await ui.ask()
            assert ui.answers == [BASE_ANSWER]
            assert [type(each) for each in ui.engine.asked] == [OpenModel, Chat]

    @pytest.mark.parametrize(
        "problem",
        [
            "The conversation is 520 tokens long, and the model takes 512; start a new one.",
            "/runs/lora-1: its adapter don't fit this model; choose another run.",
        ],
    )
    async def test_a_refusal_is_shown_and_the_next_prompt_is_answered(
        self, tmp_path: Path, problem: str
    ) -> None:
        async with chatting(tmp_path) as ui:
            ui.engine.refuses = problem
            await ui.ask()
            assert problem in " ".join(ui.text.split())
            ui.engine.refuses = None
            await ui.pilot.press("ctrl+l")
            await ui.ask()
            assert ui.answers == [EXPECTED]
