"""The models that answer: base, adapter, checkpoints and other runs."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from mlxft.engine.protocol import SideBySide
from mlxft.runs.directory import RunDirectory
from mlxft_tui.chat.turn_view import TurnView
from support.chat_pilot import (
    BASE_ANSWER,
    EXPECTED,
    chatting,
    with_adapter,
    with_checkpoint,
    with_name,
    with_other_run,
)


class TestComparison:
    async def test_ctrl_t_switches_to_the_base_model(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            await ui.pilot.press("ctrl+t")
            await ui.ask()
            assert ui.answers == [BASE_ANSWER]

    async def test_ctrl_b_answers_side_by_side(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            await ui.pilot.press("ctrl+b")
            await ui.ask()
            assert ui.answers == [BASE_ANSWER, EXPECTED]
            rows = ui.text.splitlines()
            assert any(BASE_ANSWER.splitlines()[0] in row and EXPECTED in row for row in rows)

    async def test_a_model_is_not_sent_the_answers_of_another(self, tmp_path: Path) -> None:
        note = "without 1 prompt it didn't answer"
        async with chatting(tmp_path) as ui:
            await ui.ask("One")
            await ui.pilot.press("ctrl+b")
            await ui.ask("Two")
            both = ui.engine.asked[-1]
            assert isinstance(both, SideBySide)
            sent = [[each.content for each in chat.question.messages] for chat in both.chats]
            assert sent == [["Two"], ["One", EXPECTED, "Two"]]
            assert ui.text.count(note) == 1

    async def test_retry_asks_the_model_chosen_now(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            await ui.ask()
            await ui.pilot.press("ctrl+t", "ctrl+r")
            await ui.idle()
            assert ui.answers == [BASE_ANSWER]
            assert len(ui.app.screen.query(TurnView)) == 1


class TestTitle:
    async def test_shows_the_step_of_the_weights_from_the_first_word(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            ui.engine.step, ui.engine.holds = 64, asyncio.Event()
            await ui.send()
            await ui.until(lambda: ui.answers == ['{"item":'])
            assert "adapter · step 64" in ui.text
            ui.engine.holds.set()
            await ui.idle()

    async def test_shows_the_runs_name_once_another_one_is_followed(self, tmp_path: Path) -> None:
        with_name(tmp_path, "Short answers")
        async with chatting(tmp_path) as ui:
            await ui.pilot.press("ctrl+b")
            await ui.ask()
            run = ui.screen.run
            assert run is not None
            other = RunDirectory(tmp_path / "adapters" / "other-lora-1")
            ui.app.publish(run=replace(run, directory=other))
            await ui.pilot.pause()
            shown = ui.text
            assert "Short answers · step 60" in shown
            assert "adapter · step 60" not in shown
            await ui.ask("And now?")
            chats = ui.engine.asked[-1]
            assert isinstance(chats, SideBySide)
            sent = chats.chats[1].question.messages
            assert [each.content for each in sent] == ["And now?"]
            ui.app.publish(run=run)
            await ui.pilot.pause()
            assert "other-lora-1 · step 60" in ui.text

    async def test_shows_the_runs_name_in_a_reopened_conversation(self, tmp_path: Path) -> None:
        with_name(tmp_path, "Short answers")
        async with chatting(tmp_path) as ui:
            await ui.ask()
        async with chatting(tmp_path, None) as ui:
            await ui.reopen()
            assert "Short answers · step 60" in ui.text


class TestCheckpoints:
    async def test_a_checkpoint_answers_beside_the_adapter(self, tmp_path: Path) -> None:
        file = with_checkpoint(tmp_path, 200)
        async with chatting(tmp_path, "finished", steps=200) as ui:
            await ui.choose_models("end", "space")
            await ui.pilot.press("enter")
            await ui.ask()
            (both,) = ui.engine.asked
            assert isinstance(both, SideBySide)
            assert [chat.adapter for chat in both.chats] == [str(file.parent), str(file)]
            assert "checkpoint · step 200" in ui.text

    async def test_during_training_the_engine_answers_for_checkpoints_too(
        self, tmp_path: Path
    ) -> None:
        file = with_checkpoint(tmp_path, 200)
        async with chatting(tmp_path, "running", steps=200) as ui:
            await ui.choose_models("end", "space")
            await ui.pilot.press("enter")
            await ui.ask()
            (both,) = ui.engine.asked
            assert isinstance(both, SideBySide)
            assert [chat.adapter for chat in both.chats] == [None, str(file)]

    async def test_two_adapters_of_another_run_are_compared(self, tmp_path: Path) -> None:
        with_adapter(tmp_path)
        other = with_other_run(tmp_path)
        async with chatting(tmp_path, "finished") as ui:
            await ui.choose_models("end", "space", "up", "space")
            await ui.pilot.press("enter")
            await ui.ask()
            (both,) = ui.engine.asked
            assert isinstance(both, SideBySide)
            assert [chat.adapter for chat in both.chats] == [
                str(other / "0000050_adapters.safetensors"),
                str(other),
            ]

    async def test_enter_chooses_a_single_model(self, tmp_path: Path) -> None:
        other = with_other_run(tmp_path)
        async with chatting(tmp_path, None) as ui:
            await ui.choose_models("home", "down")
            await ui.pilot.press("enter")
            await ui.ask()
            chat = ui.chat
            assert chat.adapter == str(other)

    async def test_runs_of_another_model_are_not_offered(self, tmp_path: Path) -> None:
        with_other_run(tmp_path, "another/model")
        async with chatting(tmp_path, None) as ui:
            await ui.choose_models()
            assert "other-lora-1" not in ui.text
