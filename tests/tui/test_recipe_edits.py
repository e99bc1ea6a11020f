"""Edits of the recipe are kept as they are made, wherever they are made, and can be undone."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path
from typing import Any

import pytest

from mlxft import recipe as recipes
from mlxft.recipe import Recipe
from mlxft_tui.app import project
from mlxft_tui.app.application import MlxftApp
from mlxft_tui.data import screen as data_screen
from mlxft_tui.recipe.form import ROWS, RecipeRows
from support.records import records, write_records
from support.session import RECIPE, Opened, place, screen_text, session, settled, words
from tui.test_key_queue import all_handled, press_together

BURSTS = int(os.environ.get("BURSTS", "2"))
"""Random bursts over the Data and Recipe screens."""

ALPHABET = (
    *("1", "2", "c", "u", "U", "p", "d", "enter", "escape", "backspace", "home", "end"),
    *("up", "down", "left", "right", "j", "k", "h", "l", "0", "5", "."),
)


def saved(folder: Path) -> Recipe:
    return recipes.load(folder / "recipe.yaml")


def go_to(app: MlxftApp, key: str) -> None:
    names = [row.parameter.key if row.parameter else "" for row in ROWS]
    app.screen.query_one(RecipeRows).cursor = names.index(key)


class TestKept:
    async def test_the_next_start_shows_and_trains_what_the_screen_showed(
        self, opened: Opened, folder: Path
    ) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            await pilot.press("2")
            go_to(app, "batch_size")
            press_together(app, "right", "right", "q")
            async with asyncio.timeout(20):
                while app.is_running:
                    await asyncio.sleep(0)
        shown = recipes.replace(RECIPE, "batch_size", 6)
        assert saved(folder) == shown
        app = opened(None)
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            assert place(app).recipe == shown
            await pilot.press("2", "u", "u")
            assert saved(folder) == RECIPE
            await pilot.press("U", "U")
            assert saved(folder) == shown
            await pilot.press("t")
            await settled(pilot)
            (run,) = session(app).launched
            assert run.recipe().batch_size == 6

    async def test_records_held_out_are_the_data_of_the_next_start(
        self, opened: Opened, folder: Path
    ) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            press_together(app, "x", "right", "enter")
            await all_handled(app, pilot)
            await settled(pilot, "hold out")
            assert saved(folder).data == "data-split"
            await pilot.press("u")
            assert place(app).recipe.data == saved(folder).data == "data"
            await pilot.press("U")
            assert place(app).recipe.data == saved(folder).data == "data-split"

    async def test_an_edit_made_while_records_are_split_is_not_reverted(
        self, opened: Opened, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        split = data_screen.split_in_child

        async def with_an_edit(request: Any) -> Any:
            await app.run_action("go('recipe')")
            place(app).set_parameter("iters", 7)
            return await split(request)

        monkeypatch.setattr(data_screen, "split_in_child", with_an_edit)
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            await pilot.press("x", "enter")
            await settled(pilot, "hold out")
            assert (saved(folder).iters, saved(folder).data) == (7, "data-split")
            assert place(app).recipe == saved(folder)

    async def test_a_recipe_that_was_only_looked_at_is_not_written(
        self, opened: Opened, folder: Path
    ) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            await pilot.press("c", "right", "escape", "2", "down", "q")
        assert not (folder / "recipe.yaml").exists()

    async def test_comments_of_the_file_are_kept_beside_it(
        self, opened: Opened, folder: Path
    ) -> None:
        (folder / "recipe.yaml").write_text("# mine\nmodel: m\niters: 50\n")
        app = opened(None)
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            await settled(pilot)
            place(app).set_parameter("iters", 7)
            await pilot.pause()
            assert "is kept as recipe.yaml.orig" in words(app)
        assert (folder / "recipe.yaml.orig").read_text().startswith("# mine")


class TestAnotherWindow:
    async def test_its_edits_are_shown_and_kept(
        self, opened: Opened, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(project, "FOLLOW_SECONDS", 0.01)
        recipes.save(RECIPE, folder / "recipe.yaml")
        app = opened(None)
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            recipes.save(recipes.replace(RECIPE, "iters", 7), folder / "recipe.yaml")
            while place(app).recipe.iters != 7:
                await pilot.pause(0.01)
            place(app).set_parameter("batch_size", 2)
        assert (saved(folder).iters, saved(folder).batch_size) == (7, 2)


class TestFolderThatCannotBeWritten:
    async def test_quitting_asks_before_edits_are_lost(self, opened: Opened, folder: Path) -> None:
        (folder / "recipe.yaml").mkdir()
        app = opened()
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            await settled(pilot)
            place(app).set_parameter("iters", 7)
            await pilot.pause()
            assert "can't be written" in session(app).edits.problem
            await pilot.press("q")
            assert "Quit anyway" in screen_text(app)
            await pilot.press("n")
            (folder / "recipe.yaml").rmdir()
            await pilot.press("q")
            assert not app.is_running
        assert saved(folder).iters == 7


class TestBursts:
    async def test_the_file_is_what_the_screen_shows(self, opened: Opened, folder: Path) -> None:
        write_records(folder / "data" / "train.jsonl", records(20))
        recipes.save(RECIPE, folder / "recipe.yaml")
        app = opened(None)
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            for seed in range(BURSTS):
                keys = random.Random(seed).choices(ALPHABET, k=40)
                press_together(app, *keys, *["escape"] * 3, "2")
                await all_handled(app, pilot)
                await settled(pilot, "hold out")
                assert app.screen is place(app), keys
                assert saved(folder) == place(app).recipe == session(app).edits.recipe, keys
                assert app.screen.query_one(RecipeRows).recipe == place(app).recipe


async def test_an_edit_stays_while_the_application_publishes_something_else(opened: Opened) -> None:
    """As a new sample of the machine, before the application has heard of the edit."""
    app = opened()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("2")
        await pilot.pause()
        place(app).set_parameter("seed", 7)
        app.project.context.publish()
        assert place(app).recipe.seed == 7
