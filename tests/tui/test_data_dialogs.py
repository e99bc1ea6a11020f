"""The Data screen's dialogs: columns, and holding records out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from textual.widgets._toast import Toast

from mlxft import recipe as recipes
from mlxft_tui.data.split import SplitDialog
from support.records import records, write_records
from support.session import SIZES, Opened, place, screen_text, settled, words

MESSAGES = ("down",) * 2
CONTENT = ("end", "up", "up")
"""Keys that move to lines of the columns dialog."""

FAULTY: list[Any] = [
    *records(4),
    '{"prompt": "x", "completion',
    {"prompt": "a prompt without its answer"},
    records(1)[0],
]


class TestColumns:
    async def test_a_chosen_field_applies_at_once_and_is_kept(
        self, opened: Opened, folder: Path
    ) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            await pilot.press("c", "right")
            await pilot.pause()
            assert place(app).recipe.columns == {"prompt": "completion"}
            await pilot.press("enter")
            await settled(pilot)
            assert recipes.load(folder / "recipe.yaml").columns == {"prompt": "completion"}

    async def test_records_with_other_names_become_trainable(
        self, opened: Opened, folder: Path
    ) -> None:
        write_records(folder / "data" / "train.jsonl", [{"ask": "On?", "completion": "yes"}])
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            assert "the record has no prompt" in words(app)
            await pilot.press("c", "right", "enter")
            await settled(pilot)
            assert "no problems" in screen_text(app)
            assert "prompt On?" in words(app, "#record")

    async def test_keys_of_messages_can_be_chosen(self, opened: Opened, folder: Path) -> None:
        turns = [{"speaker": "user", "says": "On?"}, {"speaker": "assistant", "says": "yes"}]
        write_records(folder / "data" / "train.jsonl", [{"messages": turns}])
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            assert "choose the key of the role" in words(app)
            await pilot.press("c", *CONTENT, "right", "right", "up", "right", "enter")
            await settled(pilot)
            assert place(app).recipe.columns == {"role": "speaker", "content": "says"}
            assert "user On?" in words(app, "#record")

    async def test_keys_of_a_chosen_conversation_are_offered(
        self, opened: Opened, folder: Path
    ) -> None:
        turns = [{"speaker": "customer", "says": "On?"}, {"speaker": "agent", "says": "yes"}]
        write_records(folder / "data" / "train.jsonl", [{"dialog": turns}])
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            await pilot.press("c", *MESSAGES, "right")
            await pilot.pause()
            assert "in messages: speaker, says" in words(app, "#known")
            await pilot.press("end", "up", "up", "right", "right", "up", "right", "enter")
            await settled(pilot)
            columns = {"messages": "dialog", "role": "speaker", "content": "says"}
            assert place(app).recipe.columns == columns
            assert "user On?" in words(app, "#record")

    async def test_an_incomplete_conversation_is_not_kept(
        self, opened: Opened, folder: Path
    ) -> None:
        turns = [{"speaker": "customer", "says": "On?"}, {"speaker": "agent", "says": "yes"}]
        write_records(folder / "data" / "train.jsonl", [{"dialog": turns}])
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            await pilot.press("c", *MESSAGES, "right", "enter")
            await pilot.pause()
            assert "The messages have no role: choose its key" in words(app, "#known")
            await pilot.press("right", "enter")
            await pilot.pause()
            assert "The messages have no content: choose its key" in words(app, "#known")
            await pilot.press("right", "enter")
            await settled(pilot)
            assert recipes.load(folder / "recipe.yaml").columns == {
                "messages": "dialog",
                "role": "speaker",
                "content": "says",
            }

    async def test_roles_with_any_name_can_be_chosen(self, opened: Opened, folder: Path) -> None:
        turns = [{"role": "kid", "content": "On?"}, {"role": "mum", "content": "yes"}]
        write_records(folder / "data" / "train.jsonl", [{"messages": turns}])
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            assert "or map this one" in words(app)
            await pilot.press("c", "end", "right", "right", "up", "right", "enter")
            await settled(pilot)
            assert place(app).recipe.columns == {"user": "kid", "assistant": "mum"}
            assert "user On?" in words(app, "#record")

    async def test_a_key_is_offered_for_role_or_content_only(
        self, opened: Opened, folder: Path
    ) -> None:
        turns = [{"speaker": "user", "says": "On?"}, {"speaker": "assistant", "says": "yes"}]
        write_records(folder / "data" / "train.jsonl", [{"messages": turns}])
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            await pilot.press("c", *CONTENT, "right", "up", "right")
            await pilot.pause()
            assert place(app).recipe.columns == {"content": "speaker", "role": "says"}

    async def test_escape_restores_the_recipe(self, opened: Opened, folder: Path) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            await pilot.press("c", "right", "escape")
            await settled(pilot)
            assert place(app).recipe.columns == {}
            assert not (folder / "recipe.yaml").exists()


class TestSplitting:
    async def test_files_are_written_and_opened(self, opened: Opened, folder: Path) -> None:
        before = (folder / "data" / "train.jsonl").read_bytes()
        app = opened()
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            await settled(pilot)
            await pilot.press("x", "right", "down", "left", "left")
            await pilot.pause()
            assert "train.jsonl: train 249, valid 45, test 6" in screen_text(app)
            await pilot.press("enter")
            await settled(pilot, "hold out")
            await settled(pilot)
            assert place(app).recipe.data == "data-split"
            assert "Wrote data-split/: train 249, valid 45, test 6." in words(app)
            assert "[train 249]" in screen_text(app)
        assert (folder / "data" / "train.jsonl").read_bytes() == before

    async def test_escape_writes_nothing(self, opened: Opened, folder: Path) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            await pilot.press("x", "escape")
            await settled(pilot)
            assert place(app).recipe.data == "data"
        assert not (folder / "data-split").exists()

    async def test_an_existing_folder_is_not_touched(self, opened: Opened, folder: Path) -> None:
        (folder / "data-split").mkdir()
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            await pilot.press("x", "enter")
            await settled(pilot, "hold out")
            assert place(app).recipe.data == "data-split-2"

    @pytest.mark.parametrize("size", SIZES)
    def test_the_dialog(self, opened: Opened, snap_compare: Any, size: tuple[int, int]) -> None:
        async def before(pilot: Any) -> None:
            await settled(pilot)
            await pilot.press("x", "right")
            await settled(pilot)

        assert snap_compare(opened(), terminal_size=size, run_before=before)


async def test_a_notice_covers_no_dialog(opened: Opened) -> None:
    app = opened()
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await settled(pilot)
        app.notify("A notice. " * 20)
        await pilot.press("x")
        await settled(pilot)
        dialog = app.screen
        assert isinstance(dialog, SplitDialog)
        (notice,) = dialog.query(Toast)
        assert notice.region.bottom <= dialog.query_one("#split").region.y
        assert not any(each.region.area for each in place(app).query(Toast))
