"""Sweeps in the app: the dialog that makes one, and the one that shows what becomes of it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from mlxft.queue.store import own_store
from mlxft.queue.sweeps import planned, start
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory
from mlxft.runs.journal import JournalWriter
from mlxft.sweep.plan import Halving, Search, Span, Sweep, read_sweep
from mlxft.sweep.record import load_record
from mlxft_tui.recipe.form import ROWS, RecipeRows
from mlxft_tui.sweep import dialog
from mlxft_tui.sweep.dialog import SweepDialog, SweepRows
from mlxft_tui.sweep.form import SweepForm
from mlxft_tui.sweep.report import Report, SweepReport
from support.journal import ended, trained_run
from support.session import RECIPE, SIZES, Opened, screen_text, settled, words

TO_METHOD = ("up", "up")
GROUPS = ("launch", "history", "sweep", "sweep-report")


async def asked(pilot: Any) -> None:
    """Open the dialog from a row of the recipe."""
    await settled(pilot)
    await pilot.press("2")
    await settled(pilot, "history", "calibration")
    names = [row.parameter.key if row.parameter else "" for row in ROWS]
    pilot.app.screen.query_one(RecipeRows).cursor = names.index("learning_rate")
    await pilot.press("x")
    await settled(pilot)


async def typed(pilot: Any, text: str) -> None:
    """Replace the value under the cursor."""
    await pilot.press("enter", "ctrl+u", *("space" if each == " " else each for each in text))


class TestDialog:
    @pytest.mark.usefixtures("round_memory", "fixed_clock")
    @pytest.mark.parametrize("size", SIZES)
    def test_looks(
        self,
        opened: Opened,
        snap_compare: Any,
        size: tuple[int, int],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(dialog, "missing_optuna", str)

        async def before(pilot: Any) -> None:
            await asked(pilot)
            axes = {"learning_rate": "1e-5 to 1e-3 log", "batch_size": "1, 2, 4, 500"}
            form = SweepForm(name="rates", method="random", first="50", axes=axes)
            pilot.app.screen.query_one(SweepRows).show(form, "first")
            await settled(pilot)

        assert snap_compare(opened(), terminal_size=size, run_before=before)

    async def test_s_queues_what_the_command_line_would(self, opened: Opened, folder: Path) -> None:
        app = opened()
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            await asked(pilot)
            assert "3 runs, about" in screen_text(app)
            await typed(pilot, "1")
            await settled(pilot)
            assert "1 point: a plain run does the same." in screen_text(app)
            await pilot.press("enter")
            await typed(pilot, "1,2,3,4")
            await settled(pilot)
            assert "4 runs, about" in screen_text(app)
            await pilot.press("enter", "up")
            await typed(pilot, "50")
            await pilot.press("enter", "s")
            await settled(pilot, *GROUPS)
            assert "Sweep sweep-1 is on the queue; X on Recipe (2)" in words(app, "Toast")
        sweep = read_sweep(folder / "sweep-1.yaml")
        assert sweep.grid == {"learning_rate": [1.0, 2.0, 3.0, 4.0]}
        assert sweep.halving == Halving(first=50)
        assert sweep.recipe == str(folder / "recipe.yaml")
        record = load_record(folder, "sweep-1")
        assert record.is_same(planned(folder, sweep, RECIPE, None).record)
        names = [each.directory.name for each in own_store().read().waiting]
        assert names == [f"sweep-1-{number}" for number in (1, 2, 3, 4)]

    async def test_a_parameter_to_vary_is_found_by_typing(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            await asked(pilot)
            await pilot.press("a", *"grad norm")
            await pilot.pause()
            assert "max_grad_norm" in screen_text(app)
            assert "batch_size" not in words(app, "#choice")
            await pilot.press(*"xx")
            await pilot.pause()
            assert "Nothing has grad normxx." in words(app, "#choice")
            await pilot.press("enter", "ctrl+u", *"lora", "down", "enter")
            await settled(pilot)
            assert list(app.screen.query_one(SweepRows).form.axes)[1].startswith("lora")

    async def test_a_wrong_value_is_said_at_its_row_and_nothing_starts(
        self, opened: Opened, folder: Path
    ) -> None:
        pytest.importorskip("optuna")
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await asked(pilot)
            await typed(pilot, "1e-5 to 99")
            await pilot.press("enter", *TO_METHOD, "left", "s")
            await settled(pilot)
            line = next(each for each in screen_text(app).splitlines() if "1e-5 to 99" in each)
            assert "learning_rate is '99'; it must be a number" in line
            assert "› learning_rate" in line
            assert isinstance(app.screen, SweepDialog)
            await typed(pilot, "1e-5 to 1 log")
            await pilot.press("enter")
            await settled(pilot)
            assert "TPE by validation loss after 5 random points, seed 0" in screen_text(app)
            sweep = app.screen.shown()
            await pilot.press("escape")
        assert sweep is not None
        assert sweep.space == {"learning_rate": Span(first=1e-5, last=1.0, scale="log")}
        assert sweep.search == Search(method="tpe", runs=12)
        assert not list(folder.glob("sweep*"))


async def test_the_report_follows_the_runs(opened: Opened, folder: Path) -> None:
    app = opened()
    name = "seeds-of-the-second-dataset-with-eight-layers"
    sweep = Sweep(name=name, grid={"seed": [1, 2]})
    start(folder, planned(folder, sweep, RECIPE, None))
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("2", "X")
        await settled(pilot, *GROUPS)
        report = app.screen
        assert isinstance(report, SweepReport)
        assert "2 points: 2 waiting." in screen_text(app)
        run = RunDirectory(folder / "adapters" / f"{name}-2")
        run.leave_queue()
        journal = JournalWriter(run.journal_file)
        for event in trained_run(RECIPE, 225):
            journal.append(event)
        journal.append(ev.ValidationFinished(step=225, loss=0.5, tokens=9, seconds=1, best=True))
        journal.append(ended(225, "completed"))
        journal.close()
        report.action_step(1)
        await settled(pilot, *GROUPS)
        assert "1 finished, 1 waiting. The lowest validation loss, 0.500, has seed 2" in (
            " ".join(screen_text(app).split())
        )
        assert f"{name}-2" in screen_text(app)
        # A narrow line leaves out what is least important, and the middle of the run's name.
        await pilot.resize_terminal(56, 24)
        report.action_step(1)
        await settled(pilot, *GROUPS)
        assert "ers-2" in screen_text(app)
        assert f"{name}-2" not in screen_text(app)
        assert "tok/s" in words(app, "#sweep-reason")
        await pilot.press("enter")
        await settled(pilot, *GROUPS)
        assert app.current_mode == "train"


async def test_a_report_read_while_its_dialog_loses_its_widgets_is_no_fault(
    opened: Opened, folder: Path
) -> None:
    start(folder, planned(folder, Sweep(name="seeds", grid={"seed": [1, 2]}), RECIPE, None))
    released = threading.Event()

    def read(name: str) -> Report:
        released.wait()
        return load_record(folder, name), []

    app = opened()
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        report = SweepReport(("seeds",), read)
        await app.push_screen(report)
        await report.query("*").remove()
        released.set()
        await settled(pilot, "sweep-report")
        assert app.screen is report
