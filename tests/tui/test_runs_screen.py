"""The Runs screen: the table, the details, and the keys."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlxft import recipe as recipes
from mlxft.comparison.labels import Labels, change_labels, read_labels
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory
from mlxft_tui.runs import runs_table
from mlxft_tui.runs.runs_table import RunsTable
from mlxft_tui.runs.screen import RunsScreen
from mlxft_tui.terminal.key_queue import DIALOG
from support.journal import RUN_START, ended, trained_run, write_run
from support.session import RECIPE, SIZES, Opened, place, screen_text, session, settled, words

FAILURE = ev.RunFailed(
    message="data/train.jsonl line 7: the record has no completion; add it or remove the line.",
    step=5,
    log="~/lamps/adapters/smollm2-lora-3/engine.log",
)


@pytest.fixture
def runs(folder: Path) -> list[RunDirectory]:
    """A finished, a lost, a failed and a stopped run, oldest first."""
    adapters = folder / "adapters"
    dora = recipes.apply_settings(RECIPE, ["fine_tune_type=dora", "iters=500"])
    return [
        write_run(adapters, RECIPE, [*trained_run(RECIPE, 225), ended(225)]),
        write_run(adapters, RECIPE, trained_run(RECIPE, 43)),
        write_run(adapters, RECIPE, [*trained_run(RECIPE, 5), FAILURE]),
        write_run(
            adapters, dora, [*trained_run(dora, 20), ended(20, "stopped")], "a-name-of-" + "x" * 60
        ),
    ]


async def shown(pilot: Any) -> None:
    await settled(pilot)
    await pilot.press("5")
    await settled(pilot)


class TestAges:
    async def test_they_move_while_they_are_on_screen(
        self, opened: Opened, runs: list[RunDirectory], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        later = [0.0]
        monkeypatch.setattr(runs_table, "AGES_SECONDS", 0.01)
        monkeypatch.setattr(RunsScreen, "clock", staticmethod(lambda: RUN_START + later[0]))
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await shown(pilot)
            assert "9 d" not in screen_text(app)
            later[0] = 9.1 * 86400
            async with asyncio.timeout(20):
                while "9 d" not in screen_text(app):
                    await pilot.pause()


class TestLooks:
    @pytest.mark.parametrize("size", SIZES)
    def test_table_and_details(
        self,
        opened: Opened,
        runs: list[RunDirectory],
        snap_compare: Any,
        size: tuple[int, int],
    ) -> None:
        async def before(pilot: Any) -> None:
            await shown(pilot)
            await pilot.press("down")
            await pilot.pause()

        assert snap_compare(opened(), terminal_size=size, run_before=before)

    @pytest.mark.parametrize("size", SIZES)
    def test_no_runs(self, opened: Opened, snap_compare: Any, size: tuple[int, int]) -> None:
        assert snap_compare(opened(), terminal_size=size, run_before=shown)

    def test_deleting_is_asked_about(
        self, opened: Opened, runs: list[RunDirectory], snap_compare: Any
    ) -> None:
        async def before(pilot: Any) -> None:
            await shown(pilot)
            await pilot.press("d")
            await pilot.pause()

        assert snap_compare(opened(), terminal_size=(80, 24), run_before=before)


class TestNames:
    async def test_that_are_long_show_their_ends_and_are_whole_where_there_is_room(
        self, opened: Opened, folder: Path
    ) -> None:
        name = "Llama-3.2-3B-Instruct-4bit-lora-rank-16-on-support-tickets"
        for each in (f"{name}-warm", f"{name}-cold"):
            write_run(folder / "adapters", RECIPE, [*trained_run(RECIPE, 3), ended(3)], each)
        found = {}
        for size in ((80, 24), (260, 60)):
            app = opened()
            async with app.run_test(size=size) as pilot:
                await shown(pilot)
                found[size] = re.findall(r"Llama\S+", words(app, "RunsTable"))
        assert [each[-5:] for each in found[80, 24]] == ["old-1", "arm-1"]
        assert found[260, 60] == [f"{name}-cold-1", f"{name}-warm-1"]


class TestKeys:
    async def test_a_disabled_key_says_why(self, opened: Opened, runs: list[RunDirectory]) -> None:
        app = opened()
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            await shown(pilot)
            table = app.screen.query_one(RunsTable)
            while table.chosen is None or table.chosen.state != "finished":
                await pilot.press("down")
            await pilot.press("R")
            await pilot.pause()
            finished_already = f"{runs[0].name} has finished; m trains it further."
            assert words(app, "Toast") == finished_already
            app.clear_notifications()
            await pilot.press("s")
            await pilot.pause()
            assert words(app, "Toast") == f"{runs[0].name} is not running."
            assert session(app).launched == []


class TestMoreSteps:
    async def asked(self, pilot: Any, answer: str) -> str:
        """The question that follows so many steps for the finished run."""
        await shown(pilot)
        table = pilot.app.screen.query_one(RunsTable)
        while table.chosen is None or table.chosen.state != "finished":
            await pilot.press("down")
        await pilot.press("m", "ctrl+u", *answer, "enter")
        await settled(pilot, DIALOG)
        return screen_text(pilot.app)

    async def test_they_are_explained_and_trained(
        self, opened: Opened, runs: list[RunDirectory]
    ) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            text = " ".join((await self.asked(pilot, "300")).split())
            assert "continues from step 225 to 300" in text
            await pilot.press("y")
            await settled(pilot)
            assert session(app).launched == [runs[0]]
            assert runs[0].recipe().iters == 300

    async def test_too_few_are_refused(self, opened: Opened, runs: list[RunDirectory]) -> None:
        app = opened()
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            await self.asked(pilot, "200")
            assert "has trained 225 steps, so iters 200 adds none" in words(app, "Toast")
            assert session(app).launched == []

    @pytest.mark.parametrize("size", SIZES)
    def test_the_explanation(
        self,
        opened: Opened,
        runs: list[RunDirectory],
        snap_compare: Any,
        size: tuple[int, int],
    ) -> None:
        async def before(pilot: Any) -> None:
            await self.asked(pilot, "300")

        assert snap_compare(opened(), terminal_size=size, run_before=before)


class TestTable:
    async def test_each_run_shows_its_state(self, opened: Opened, runs: list[RunDirectory]) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await shown(pilot)
            text = screen_text(app)
            for state in ("✓ finished", "? lost", "✗ failed", "■ stopped"):
                assert state in text
            assert "225/225" in text

    async def test_titles_are_aligned_with_lines_at_any_width(
        self, opened: Opened, runs: list[RunDirectory]
    ) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("5", "1", "5")
            for width in (80, 200, 100):
                await pilot.resize_terminal(width, 40)
                await shown(pilot)
                lines = screen_text(app).splitlines()
                (titles,) = (line for line in lines if "state" in line and "best val" in line)
                run = next(line for line in lines if "225/225" in line)
                assert titles.index("loss") + 4 == run.index("0.809") + 5

    async def test_notes_get_the_width_that_names_and_figures_leave(
        self, opened: Opened, runs: list[RunDirectory]
    ) -> None:
        notes = "half the data, 4 warm-up steps"
        change_labels(runs[3], lambda labels: msgspec.structs.replace(labels, name="dora"))
        app = opened()
        async with app.run_test(size=(200, 60)) as pilot:
            await shown(pilot)
            change_labels(runs[0], lambda labels: msgspec.structs.replace(labels, notes=notes))
            await pilot.press("1")
            await shown(pilot)
            lines = screen_text(app).splitlines()
            titles, noted, other = (
                next(line for line in lines if text in line)
                for text in ("improved", "225/225", "? lost")
            )
            assert titles.index("notes") == noted.index(notes)
            assert titles.index("state") == noted.index("✓") == other.index("?")

    async def test_a_live_run_comes_first(self, opened: Opened, runs: list[RunDirectory]) -> None:
        app = opened()
        with runs[1].locked():
            async with app.run_test(size=(120, 40)) as pilot:
                await shown(pilot)
                first = next(line for line in screen_text(app).splitlines() if "›" in line)
                assert "smollm2-lora-2" in first
                assert "● running" in first

    async def test_a_new_run_is_added(self, opened: Opened, folder: Path) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await shown(pilot)
            assert "No run yet" in screen_text(app)
            write_run(folder / "adapters", RECIPE, [*trained_run(RECIPE, 2), ended(2)])
            await pilot.press("1", "5")
            await settled(pilot)
            assert "✓ finished" in screen_text(app)

    async def test_details_of_a_failed_run_show_its_error(
        self, opened: Opened, runs: list[RunDirectory]
    ) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await shown(pilot)
            await pilot.press("down")
            await pilot.pause()
            assert "line 7: the record has no completion" in words(app)
            assert "engine.log" in words(app)

    async def test_details_of_a_lost_run_show_its_log_and_the_resume_key(
        self, opened: Opened, runs: list[RunDirectory]
    ) -> None:
        app = opened()
        async with app.run_test(size=(200, 60)) as pilot:
            await shown(pilot)
            await pilot.press("down", "down")
            await pilot.pause()
            details = words(app, "#details")
            assert "R resumes from the checkpoint of step 40." in details
            assert "log ~/lamps/adapters/smollm2-lora-2/engine.log" in details

    async def test_details_show_how_the_recipe_differs(
        self, opened: Opened, runs: list[RunDirectory]
    ) -> None:
        app = opened(follow=runs[0])
        async with app.run_test(size=(200, 60)) as pilot:
            await shown(pilot)
            differences = "fine_tune_type dora was lora iters 500 was 225"
            assert f"differs from smollm2-lora-1 {differences}" in words(app, "#details")

    async def test_details_show_manual_learning_rates(self, opened: Opened, folder: Path) -> None:
        changes = [
            ev.LearningRateChanged(step=at, learning_rate=rate)
            for at, rate in ((7, 1e-4), (9, 1.5e-4))
        ]
        events = [*trained_run(RECIPE, 10), *changes, ended(10, "stopped")]
        write_run(folder / "adapters", RECIPE, events)
        app = opened()
        async with app.run_test(size=(200, 60)) as pilot:
            await shown(pilot)
            expected = "learning rate changed 1e-4 after step 7, 1.5e-4 after step 9"
            assert expected in words(app, "#details")


class TestAttaching:
    async def test_a_run_being_read_is_named(
        self, opened: Opened, runs: list[RunDirectory], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mlxft_tui.app.follower.Follower.poll", lambda _: None)
        app = opened(follow=runs[0])
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            assert words(app).count("reading smollm2-lora-1 …") == 2
            assert "no run yet" not in words(app)


class TestActions:
    async def test_enter_follows(self, opened: Opened, runs: list[RunDirectory]) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await shown(pilot)
            await pilot.press("end", "enter")
            while place(app).run is None:
                await pilot.pause()
            assert app.current_mode == "train"
            assert place(app).run.directory == runs[0]  # type: ignore[union-attr]

    async def test_a_stopped_run_is_resumed(self, opened: Opened, runs: list[RunDirectory]) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await shown(pilot)
            await pilot.press("R")
            await settled(pilot)
            assert session(app).launched == [runs[3]]

    async def test_a_finished_run_is_not_resumed(
        self, opened: Opened, runs: list[RunDirectory]
    ) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await shown(pilot)
            await pilot.press("end", "R")
            await settled(pilot)
            assert session(app).launched == []

    async def test_deleting_asks_first(self, opened: Opened, runs: list[RunDirectory]) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await shown(pilot)
            await pilot.press("d", "n")
            await settled(pilot)
            assert runs[3].path.exists()
            await pilot.press("d", "y")
            await settled(pilot)
            assert not runs[3].path.exists()

    async def test_a_live_run_is_never_deleted(
        self, opened: Opened, runs: list[RunDirectory]
    ) -> None:
        app = opened()
        with runs[1].locked():
            async with app.run_test(size=(120, 40)) as pilot:
                await shown(pilot)
                await pilot.press("d", "y")
                await settled(pilot)
        assert runs[1].path.exists()


def listed(app: Any) -> list[str]:
    """The names in the table, from the top."""
    lines = words(app, "RunsTable").split()
    return [each for each in lines if each.startswith(("smollm2-lora-", "a-name", "Best"))]


class TestOneTable:
    async def test_runs_are_filtered_sorted_and_shown_with_other_columns(
        self, opened: Opened, runs: list[RunDirectory]
    ) -> None:
        app = opened()
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            await shown(pilot)
            await pilot.press("slash", *"step > 20", "enter")
            await settled(pilot)
            assert listed(app) == ["smollm2-lora-2", "smollm2-lora-1"]
            assert "runs 2 of 4 step > 20" in words(app)
            await pilot.press("o", "o", "o", "o")
            await settled(pilot)
            assert "loss▲" in words(app)
            assert listed(app) == ["smollm2-lora-1", "smollm2-lora-2"]
            await pilot.press("O", "slash", "ctrl+u", *"losss", "enter")
            await settled(pilot)
            # A wrong filter stays in its line, below what is wrong with it.
            assert "losss is not a column" in words(app, "#problem")
            assert "filter losss" in words(app, "AskLine")
            await pilot.press("escape")
            # The columns are kept for the next start.
            await pilot.press("v", "space", "down", "J", "enter", "escape")
            await settled(pilot)
            titles = "name step best val loss▼ improved tok/s age"
            assert titles in words(app, "#columns")
        again = opened()
        async with again.run_test(size=(120, 40)) as pilot:
            await shown(pilot)
            assert titles in words(again, "#columns")
            assert len(listed(again)) == 4

    async def test_a_run_is_named_tagged_pinned_and_archived(
        self, opened: Opened, runs: list[RunDirectory]
    ) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await shown(pilot)
            async with asyncio.timeout(60):
                while len(listed(app)) < 4:
                    await pilot.pause()
                await pilot.press("end", "n", *"Best", "down", *"good, small", "enter")
                while read_labels(runs[0]).name != "Best":
                    await pilot.pause()
                await settled(pilot)
                await pilot.press("p")
                while not read_labels(runs[0]).pinned:
                    await pilot.pause()
            await settled(pilot)
            assert read_labels(runs[0]) == Labels(name="Best", tags=("good", "small"), pinned=True)
            assert listed(app)[0] == "Best"
            assert "tags good, small" in words(app, "#details")
            # Marks take in several runs.
            await pilot.press("home", "down", "space", "space", "a")
            await settled(pilot)
            assert "runs 2 of 4 2 marked" in words(app)
            assert len(listed(app)) == 2
            await pilot.press("A", "home", "space")
            await settled(pilot)
            assert len(listed(app)) == 4
            assert "● ↑ Best" in words(app, "RunsTable")
            assert "↓ smollm2-lora-" in words(app, "RunsTable")

    async def test_deleting_says_what_it_frees_and_some_runs_are_kept(
        self, opened: Opened, runs: list[RunDirectory]
    ) -> None:
        (runs[0].path / "adapters.safetensors").write_bytes(b"x" * 2_000_000)
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await shown(pilot)
            await pilot.press("end", "d")
            await settled(pilot)
            assert re.search(r"This frees 2\.\d MB and can't be undone", words(app))
            # The first run has the lowest validation loss.
            await pilot.press("n", "D", "ctrl+u", *"1, 1", "enter")
            await settled(pilot, DIALOG)
            assert "Delete 2 runs with their adapters" in words(app)
            await pilot.press("y")
            await settled(pilot)
            assert sum(run.path.exists() for run in runs) == 2
            assert runs[0].path.exists()

    async def test_a_run_is_the_start_of_a_new_recipe(
        self, opened: Opened, runs: list[RunDirectory]
    ) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await shown(pilot)
            await pilot.press("i")
            await settled(pilot)
            changed = words(app, "#details")
            assert "changed since a-name-of" in changed
            assert "fine_tune_type lora was dora" in changed
            # A run that is training is read again and again; the page stays.
            app.screen.post_message(RunsTable.Moved(app.screen.query_one(RunsTable), 0))
            app.screen.read_again()  # type: ignore[attr-defined]
            await settled(pilot, "details", "history")
            assert words(app, "#details") == changed
            await pilot.press("escape")
            await settled(pilot, "details")
            assert "changed since" not in words(app, "#details")
            await pilot.press("f")
            await settled(pilot)
            assert app.current_mode == "recipe"
            assert session(app).edits.recipe.fine_tune_type == "dora"
            await pilot.press("u")
            assert session(app).edits.recipe.fine_tune_type == "lora"
