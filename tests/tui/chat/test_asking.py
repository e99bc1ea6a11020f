"""Prompts, answers and what is shown with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.widgets import Input

from mlxft import recipe as recipes
from mlxft.conversation.messages import Message, Sampling
from mlxft.engine.protocol import Chat, ModelOpened, OpenModel
from mlxft.recipe import ChatTemplate
from mlxft.runs import events as ev
from mlxft_tui.chat.screen import ChatScreen
from support.chat_pilot import BASE_ANSWER, EXPECTED, PROMPT, chatting, with_adapter
from support.journal import RUN_RECIPE, START


class TestAsking:
    async def test_during_training_the_engine_answers(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            await ui.ask()
            assert ui.answers == [EXPECTED]
            chat = ui.chat
            assert chat.question.messages == (Message("user", PROMPT),)
            assert chat.question.use_adapter
            assert chat.adapter is None

    async def test_after_a_run_the_model_service_answers(self, tmp_path: Path) -> None:
        folder = with_adapter(tmp_path)
        async with chatting(tmp_path, "finished") as ui:
            await ui.ask()
            chat = ui.chat
            assert chat.adapter == str(folder)

    async def test_without_a_run_the_base_model_answers(self, tmp_path: Path) -> None:
        async with chatting(tmp_path, None) as ui:
            await ui.ask()
            assert ui.answers == [BASE_ANSWER]
            await ui.press("ctrl+t")
            assert "There is no adapter yet" in ui.text

    async def test_the_base_model_answers_with_the_template_of_the_run_beside_it(
        self, tmp_path: Path
    ) -> None:
        kept = with_adapter(tmp_path) / "chat_template.jinja"
        kept.write_text("{{ messages }}")
        async with chatting(tmp_path, "finished") as ui:
            await ui.press("ctrl+t")
            await ui.ask()
            assert not ui.chat.question.use_adapter
            assert ui.chat.template == ChatTemplate(template=str(kept))

    async def test_a_run_of_another_model_opens_that_model_and_uses_its_sampling(
        self, tmp_path: Path
    ) -> None:
        with_adapter(tmp_path)
        other = recipes.replace(RUN_RECIPE, "model", "another/model")
        async with chatting(tmp_path, "finished", other) as ui:
            ui.engine.opens = ModelOpened(
                id=0,
                path="/models/another",
                config={},
                has_chat_template=False,
                backend=ev.BackendReady(device="x86_64", kind="cpu"),
                sampling=Sampling(temperature=0.6),
            )
            await ui.ask()
            opening, chat = ui.engine.asked
            assert opening == OpenModel("another/model")
            assert isinstance(chat, Chat)
            assert chat.question.sampling == Sampling(temperature=0.6)
            assert "no chat template" in ui.text
            ui.screen.on_screen_suspend()
            await ui.idle()
            assert ui.engine.asked[-1] == OpenModel(RUN_RECIPE.model)

    async def test_the_status_shows_time_and_speed(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            await ui.ask()
            assert ui.statuses == ["4 tokens in 1.3 s, 41.5 tok/s  prompt 31, 812 tok/s"]

    async def test_a_second_prompt_continues_the_conversation(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            await ui.ask("Hello")
            await ui.ask("And now?")
            chat = ui.chats[1]
            assert [each.role for each in chat.question.messages] == ["user", "assistant", "user"]

    async def test_a_refusal_shows_the_reason_and_can_be_retried(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            ui.engine.refuses = "The run is not training yet."
            await ui.ask()
            assert ui.statuses == ["The run is not training yet. ^r retries."]
            ui.engine.refuses = None
            await ui.pilot.press("ctrl+r")
            await ui.idle()
            assert ui.answers == [EXPECTED]


class TestRunBar:
    async def test_the_run_bar_shows_how_long_the_run_has_been_answering(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ChatScreen, "clock", staticmethod(lambda: START + 40))
        waits = ev.ProgressMade(stage="answering", done=0)
        async with chatting(tmp_path, then=[waits]) as ui:
            assert "RUNNING  answering 16 s" in ui.text

    async def test_the_run_bar_shows_the_time_an_answer_took(self, tmp_path: Path) -> None:
        waited = ev.ChatAnswered(step=60, tokens=12, seconds=3.21)
        async with chatting(tmp_path, then=[waited]) as ui:
            assert "RUNNING  waited 3.2 s for an answer" in ui.text


class TestThinking:
    async def test_thinking_is_folded_until_a_key_shows_it(self, tmp_path: Path) -> None:
        async with chatting(tmp_path, answer=lambda chat: "<think>so so</think>Yes.") as ui:
            await ui.ask()
            assert ui.answers == ["Yes."]
            assert "▸ thought, 2 words" in ui.text
            await ui.press("escape", "g")
            shown = ui.text
            assert "▾ thought, 2 words" in shown
            assert "so so" in shown

    async def test_shown_thinking_stays_shown_in_other_branches(self, tmp_path: Path) -> None:
        async with chatting(tmp_path, answer=lambda chat: "<think>so so</think>Yes.") as ui:
            await ui.ask()
            await ui.press("escape", "g", "ctrl+r")
            await ui.idle()
            await ui.press("left_square_bracket")
            await ui.idle()
            assert "1 of 2" in ui.text
            assert "so so" in ui.text

    async def test_thinking_is_not_sent_to_the_model(self, tmp_path: Path) -> None:
        async with chatting(tmp_path, answer=lambda chat: "<think>hm</think>Yes.") as ui:
            await ui.ask("One")
            await ui.ask("Two")
            chat = ui.chats[1]
            assert chat.question.messages[1] == Message("assistant", "Yes.")


class TestSampling:
    async def test_settings_of_the_dialog_are_used(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            await ui.press("escape", "s")
            for name, value in (("system", "Be brief."), ("temperature", "0.7"), ("seed", "5")):
                ui.app.screen.query_one(f"#{name}", Input).value = value
            await ui.press("enter")
            await ui.pilot.press("enter")
            await ui.ask()
            chat = ui.chat
            assert chat.question.sampling == Sampling(temperature=0.7, seed=5)
            assert chat.question.messages[0] == Message("system", "Be brief.")

    async def test_settings_other_than_the_defaults_are_shown(self, tmp_path: Path) -> None:
        async with chatting(tmp_path, size=(200, 40)) as ui:
            assert "max 512 tokens" not in ui.text
            await ui.press("escape", "s")
            for name, value in (("temperature", "0.7"), ("max_tokens", "64"), ("stop", r"### \n")):
                ui.app.screen.query_one(f"#{name}", Input).value = value
            await ui.press("enter")
            assert "temperature 0.7  max 64 tokens  stops at ### \\n" in ui.text

    async def test_an_invalid_value_is_refused_with_the_reason(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            await ui.press("escape", "s")
            ui.app.screen.query_one("#top_p", Input).value = "2"
            await ui.press("enter")
            assert "top_p is 2.0; it must be above 0" in ui.text
            await ui.pilot.press("escape")
            await ui.pilot.press("enter")
            await ui.ask()
            chat = ui.chat
            assert chat.question.sampling == Sampling()

    async def test_a_retry_uses_another_seed(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            await ui.ask()
            await ui.pilot.press("ctrl+r")
            await ui.idle()
            seeds = [chat.question.sampling.seed for chat in ui.engine.asked]  # type: ignore[union-attr]
            assert seeds == [0, 1]
