"""Corrected and exported answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxft import recipe as recipes
from mlxft.data.validation import problems
from mlxft.storage.paths import sample_data
from mlxft_tui.chat.turn_view import TurnView
from mlxft_tui.frame.choice import ChoiceDialog
from mlxft_tui.session import Session
from support.chat_pilot import EXPECTED, PROMPT, ChatPilot, chatting, records_of, with_examples
from support.journal import RUN_RECIPE


def contents(folder: Path) -> list[list[str]]:
    """The messages of each training record."""
    records = records_of(folder / "data" / "train.jsonl")
    return [[each["content"] for each in record["messages"]] for record in records]


class TestLaterTurns:
    async def corrected(self, ui: ChatPilot, *keys: str, text: str = "right") -> None:
        """Correct the current answer, and choose with these keys what becomes a record."""
        await ui.pilot.press("escape", "c")
        await ui.send(text)
        await ui.until(lambda: isinstance(ui.app.screen, ChoiceDialog))
        await ui.press(*keys)
        await ui.idle()

    @pytest.mark.parametrize(
        ("keys", "record"),
        [
            (["enter"], ["One", EXPECTED, "Two", "right"]),
            (["down", "enter"], ["Two", "right"]),
        ],
    )
    async def test_the_conversation_or_the_turn_alone_becomes_a_record(
        self, tmp_path: Path, keys: list[str], record: list[str]
    ) -> None:
        async with chatting(tmp_path) as ui:
            await ui.ask("One")
            await ui.ask("Two")
            await self.corrected(ui, *keys)
            assert contents(tmp_path) == [record]

    async def test_answers_without_an_end_are_warned_of(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            await ui.ask_and_stop()
            ui.engine.holds = None
            await ui.ask("Two")
            await ui.pilot.press("escape", "c")
            await ui.send("right")
            await ui.until(lambda: isinstance(ui.app.screen, ChoiceDialog))
            assert "trains 1 earlier answer too, 1 cut off" in ui.text
            # So the turn alone is what enter chooses.
            await ui.press("enter")
            await ui.idle()
            assert contents(tmp_path) == [["Two", "right"]]

    async def test_a_test_prompt_before_it_is_not_trained_unasked(self, tmp_path: Path) -> None:
        with_examples(tmp_path)
        async with chatting(tmp_path) as ui:
            await ui.pilot.press("ctrl+n", "enter")
            await ui.idle()
            await ui.ask("Two")
            await ui.pilot.press("escape", "c")
            await ui.send("right")
            await ui.until(lambda: isinstance(ui.app.screen, ChoiceDialog))
            assert "holds a test prompt, which biases evaluations" in ui.text
            await ui.press("enter")
            await ui.idle()
            assert contents(tmp_path) == [["Two", "right"]]

    async def test_escape_keeps_the_correction_in_the_line(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            await ui.ask("One")
            await ui.ask("Two")
            await self.corrected(ui, "escape")
            assert ui.line.text == "right"
            assert not (tmp_path / "data" / "train.jsonl").exists()


class TestUndoing:
    async def correct(self, ui: ChatPilot, text: str) -> None:
        await ui.pilot.press("escape", "c")
        await ui.ask(text)

    async def test_a_second_correction_replaces_the_first(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            await ui.ask("One")
            await self.correct(ui, "better")
            await self.correct(ui, "best")
            assert contents(tmp_path) == [["One", "best"]]
            assert "Replaced your earlier correction" in ui.notice_text

    async def test_it_does_so_in_a_later_session(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            await ui.ask("One")
            await self.correct(ui, "better")
        async with chatting(tmp_path) as ui:
            await ui.reopen()
            await self.correct(ui, "best")
            assert contents(tmp_path) == [["One", "best"]]

    async def test_corrections_are_undone_one_by_one(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        file = tmp_path / "data" / "train.jsonl"
        file.write_text('{"messages": [{"role": "user", "content": "a"}]}\n')
        async with chatting(tmp_path) as ui:
            await ui.ask("One")
            await self.correct(ui, "better")
            await self.correct(ui, "best")
            await ui.press("escape", "u")
            await ui.idle()
            assert contents(tmp_path)[1:] == [["One", "better"]]
            await ui.press("u")
            await ui.idle()
            assert contents(tmp_path) == [["a"]]
            await ui.press("u")
            await ui.idle()
            assert "There is no correction to undo." in ui.notices

    async def test_a_record_that_is_gone_is_not_undone_twice(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            await ui.ask("One")
            await self.correct(ui, "better")
            (tmp_path / "data" / "train.jsonl").write_text("")
            await ui.press("escape", "u")
            await ui.idle()
            assert "is no longer in" in ui.notice_text


class TestCorrections:
    async def test_a_correction_becomes_a_training_record(self, tmp_path: Path) -> None:
        with_examples(tmp_path)
        async with chatting(tmp_path) as ui:
            await ui.ask("Add 7 plums")
            await ui.pilot.press("escape", "c")
            assert ui.line.text == EXPECTED
            assert "⏎ adds it to train.jsonl" in ui.text
            assert ui.text.splitlines()[-1].count("Save") == 1
            await ui.ask('{"item": "plums", "quantity": 7}')
            assert len(ui.engine.asked) == 1
            await ui.idle()
            assert records_of(tmp_path / "data" / "train.jsonl") == [
                {
                    "messages": [
                        {"role": "user", "content": "Add 7 plums"},
                        {"role": "assistant", "content": '{"item": "plums", "quantity": 7}'},
                    ]
                }
            ]

    async def test_correcting_a_test_prompt_warns_about_evaluations(self, tmp_path: Path) -> None:
        with_examples(tmp_path)
        async with chatting(tmp_path) as ui:
            await ui.pilot.press("ctrl+n", "enter")
            await ui.idle()
            await ui.pilot.press("escape", "c")
            assert "Evaluations use this prompt" in " ".join(ui.text.split())
            await ui.pilot.press("escape")
            assert not (tmp_path / "data" / "train.jsonl").exists()
            await ui.pilot.press("c", "enter")
            await ui.idle()
            assert any("evaluations use its prompt" in each for each in ui.notices)

    async def test_a_correction_in_another_format_warns_about_mlx_lm(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "train.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
        clause = "mlx_lm can't train messages next to prompt/completion, mlxft-tui can"
        async with chatting(tmp_path) as ui:
            await ui.ask("One")
            await ui.pilot.press("escape", "c", "enter")
            await ui.idle()
            assert "Added to" in ui.notice_text
            assert clause not in ui.notice_text
            await ui.pilot.press("escape", "enter")
            await ui.ask("Two")
            await ui.pilot.press("escape", "c", "enter")
            await ui.until(lambda: isinstance(ui.app.screen, ChoiceDialog))
            await ui.press("enter")
            await ui.idle()
            assert clause in ui.notice_text

    async def test_a_correction_that_can_not_be_saved_stays_in_the_line(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "data" / "train.jsonl").mkdir(parents=True)
        async with chatting(tmp_path) as ui:
            await ui.ask("Add 7 plums")
            line = ui.line
            await ui.pilot.press(*"draft", "escape", "c")
            await ui.ask("{}")
            await ui.idle()
            assert "train.jsonl" in ui.notice_text
            assert line.text == "{}"
            (tmp_path / "data" / "train.jsonl").rmdir()
            await ui.pilot.press("enter")
            await ui.idle()
            (record,) = records_of(tmp_path / "data" / "train.jsonl")
            assert record["messages"][-1]["content"] == "{}"
            assert line.text == "draft"

    @pytest.mark.parametrize("key", ["ctrl+n", "ctrl+r"])
    async def test_other_prompts_do_not_replace_a_correction_in_progress(
        self, tmp_path: Path, key: str
    ) -> None:
        with_examples(tmp_path)
        async with chatting(tmp_path) as ui:
            await ui.ask("One")
            line = ui.line
            await ui.press("escape", "c", *"!!", key)
            assert line.text.endswith("!!")
            assert len(ui.app.screen.query(TurnView)) == 1

    async def test_invisible_characters_are_kept_in_the_record(self, tmp_path: Path) -> None:
        with_examples(tmp_path)
        async with chatting(tmp_path, answer=lambda chat: "if x:\n\treturn") as ui:
            await ui.ask("Code")
            await ui.pilot.press("escape", "c", "enter")
            await ui.idle()
            (record,) = records_of(tmp_path / "data" / "train.jsonl")
            assert record["messages"][-1]["content"] == "if x:\n\treturn"

    async def test_an_edited_correction_keeps_invisible_characters(self, tmp_path: Path) -> None:
        with_examples(tmp_path)
        async with chatting(tmp_path, answer=lambda chat: "if x:\n\treturn\u200f") as ui:
            await ui.ask("Code")
            await ui.pilot.press("escape", "c", "space", "1", "enter")
            await ui.idle()
            (record,) = records_of(tmp_path / "data" / "train.jsonl")
            assert record["messages"][-1]["content"] == "if x:\n\treturn\u200f 1"

    async def test_correcting_sample_data_copies_it_into_the_project(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            ui.app.publish(recipe=recipes.replace(RUN_RECIPE, "data", str(sample_data())))
            await ui.ask("Add 7 plums")
            await ui.pilot.press("escape", "c")
            await ui.ask("{}")
            await ui.idle()
            record = records_of(tmp_path / "data" / "train.jsonl")[-1]
            assert record == {"prompt": "Add 7 plums", "completion": "{}"}
            assert ui.app.recipes[-1].data == "data"
            assert Session(tmp_path).saved_recipe().data == "data"
            assert (
                "now 301 records; the recipe's data was copied to data, where it trains from now on"
                in ui.notice_text
            )

    async def test_the_copy_leaves_the_users_data_alone(self, tmp_path: Path) -> None:
        with_examples(tmp_path)
        async with chatting(tmp_path) as ui:
            ui.app.publish(recipe=recipes.replace(RUN_RECIPE, "data", str(sample_data())))
            await ui.ask("Add 7 plums")
            await ui.pilot.press("escape", "c", "enter")
            await ui.idle()
            assert [each.name for each in (tmp_path / "data").iterdir()] == ["test.jsonl"]
            assert ui.app.recipes[-1].data == "data-2"


class TestExport:
    async def test_a_conversation_is_exported_as_one_record(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            await ui.ask("One")
            await ui.ask("Two")
            await ui.pilot.press("escape", "x")
            (record,) = records_of(tmp_path / "chat_export.jsonl")
            roles = [each["role"] for each in record["messages"]]
            assert roles == ["user", "assistant", "user", "assistant"]
            assert not list(problems(record))

    async def test_a_test_prompt_starts_a_new_record(self, tmp_path: Path) -> None:
        with_examples(tmp_path)
        async with chatting(tmp_path) as ui:
            await ui.ask("One")
            await ui.pilot.press("ctrl+n", "enter")
            await ui.idle()
            await ui.ask("Two")
            await ui.pilot.press("escape", "x")
            found = records_of(tmp_path / "chat_export.jsonl")
            prompts = [[each["content"] for each in record["messages"][::2]] for record in found]
            assert prompts == [["One"], [PROMPT, "Two"]]
            assert "Added 2 records" in ui.notice_text
            assert "one per test prompt and what followed it." in ui.notice_text

    async def test_a_stopped_answer_is_not_exported(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            await ui.ask_and_stop()
            await ui.pilot.press("escape", "x")
            assert not (tmp_path / "chat_export.jsonl").exists()
            ui.engine.holds = None
            await ui.pilot.press("enter")
            await ui.ask("Two")
            await ui.pilot.press("escape", "x")
            (exported,) = records_of(tmp_path / "chat_export.jsonl")
            assert [each["content"] for each in exported["messages"]] == ["Two", EXPECTED]
            assert any("skipped 1 prompt without a complete answer" in each for each in ui.notices)

    async def test_copy_leaves_out_the_thinking(self, tmp_path: Path) -> None:
        async with chatting(tmp_path, answer=lambda chat: "<think>hm</think>Yes.") as ui:
            await ui.ask()
            await ui.pilot.press("escape", "y")
            assert ui.app.clipboard == "Yes."
