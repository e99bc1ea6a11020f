"""The application: screens, followed run, model, and exit."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.color import Color
from textual.widgets import Input

from mlxft import recipe as recipes
from mlxft.engine.protocol import MeasureTokens, OpenModel, Pause
from mlxft.errors import EngineError
from mlxft.recipe import Recipe
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory
from mlxft.runs.journal import JournalWriter
from mlxft.storage.paths import log_file
from mlxft_tui.app import MlxftApp
from mlxft_tui.chat.prompt_input import PromptInput
from mlxft_tui.frame.messages import (
    CommandIssued,
    ResumeRequested,
    TrainingRequested,
)
from mlxft_tui.text.theme import DARK, LIGHT
from support.journal import ended, trained_run, write_run
from support.records import records, write_records
from support.session import (
    RECIPE,
    Opened,
    QuietSession,
    place,
    screen_text,
    session,
    settled,
    words,
)


class TestScreens:
    async def test_data_is_the_first_screen(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(80, 24)):
            assert app.current_mode == "data"

    @pytest.mark.parametrize(
        ("key", "mode"),
        [("1", "data"), ("2", "recipe"), ("3", "train"), ("4", "chat"), ("5", "runs")],
    )
    async def test_number_keys_switch_screens(self, opened: Opened, key: str, mode: str) -> None:
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.press(key)
            assert app.current_mode == mode
            assert f"[{key} {mode.title()}]" in screen_text(app)

    async def test_function_keys_switch_screens_from_an_input(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.press("4", "1", "f5")
            assert app.current_mode == "runs"

    async def test_a_screen_shown_later_gets_the_current_state(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            await settled(pilot)
            await pilot.press("2")
            assert place(app).recipe == RECIPE
            assert place(app).model is not None
            assert place(app).data is not None

    async def test_following_a_run_opens_on_the_train_screen(
        self, opened: Opened, folder: Path
    ) -> None:
        run = write_run(folder / "adapters", RECIPE, trained_run(RECIPE, 3))
        app = opened(follow=run)
        async with app.run_test(size=(80, 24)):
            assert app.current_mode == "train"


class TestStartScreen:
    async def test_keys_pressed_before_the_first_screen_reach_it(self, folder: Path) -> None:
        app = MlxftApp(folder, RECIPE, session=QuietSession(folder), start_screen=True)
        async with app.run_test(size=(80, 24)) as pilot:
            for key in "4hi":
                app.post_message(events.Key(key, key))
            async with asyncio.timeout(20):
                while app.current_mode != "chat" or app.handling_keys:
                    await pilot.pause()
            assert app.screen.query_one(PromptInput).text == "hi"

    async def test_a_run_is_followed_from_its_own_screen(self, folder: Path) -> None:
        run = write_run(folder / "adapters", RECIPE, trained_run(RECIPE, 3))
        session = QuietSession(folder)
        app = MlxftApp(folder, RECIPE, follow=run, session=session, start_screen=True)
        async with app.run_test(size=(120, 40)) as pilot:
            assert "[3 Train]" in screen_text(app)
            while "? LOST" not in screen_text(app):
                await pilot.pause(0.02)


class TestInitialRecipe:
    async def test_the_folders_recipe_is_loaded(self, opened: Opened, folder: Path) -> None:
        (folder / "recipe.yaml").write_text("model: demo\niters: 7\n")
        app = opened(recipe=None)
        async with app.run_test():
            assert place(app).recipe == Recipe(model="demo", iters=7)

    async def test_without_one_the_last_runs_model_is_used(
        self, opened: Opened, folder: Path
    ) -> None:
        write_run(folder / "adapters", Recipe(model="demo", iters=7), [])
        app = opened(recipe=None)
        async with app.run_test():
            assert place(app).recipe == Recipe(model="demo")

    async def test_an_invalid_one_is_reported_and_kept(self, opened: Opened, folder: Path) -> None:
        (folder / "recipe.yaml").write_text("iterations: 7\n")
        app = opened(recipe=None)
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            await pilot.pause()
            assert "iterations is not a training parameter; did you mean iters?" in words(
                app, "Toast"
            )
        assert (folder / "recipe.yaml").read_text() == "iterations: 7\n"


class TestMeasuring:
    async def test_records_that_cant_be_measured_are_reported(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            await settled(pilot)
            session(app).scripted.refusal = "The model service has ended."
            shorter = recipes.replace(place(app).recipe, "max_seq_length", 64)
            place(app).change_recipe(shorter)
            await settled(pilot)
            assert "can't be measured in tokens" in words(app, "Toast")

    async def test_another_folders_records_are_measured(self, opened: Opened, folder: Path) -> None:
        write_records(folder / "corrected" / "train.jsonl", records(3))
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            session(app).scripted.commands.clear()
            place(app).change_recipe(recipes.replace(place(app).recipe, "data", "corrected"))
            await settled(pilot)
            measured = [
                command.path
                for command in session(app).scripted.commands
                if isinstance(command, MeasureTokens)
            ]
            assert measured == [str(folder / "corrected" / "train.jsonl")]


class TestFollowing:
    async def test_a_runs_journal_is_shown(self, opened: Opened, folder: Path) -> None:
        run = write_run(
            folder / "adapters", RECIPE, [*trained_run(RECIPE, 40), ended(40, "stopped")]
        )
        app = opened(follow=run)
        async with app.run_test(size=(120, 40)) as pilot:
            while place(app).run is None:
                await pilot.pause()
            await pilot.pause()
            assert "■ STOPPED  40/225 17%" in screen_text(app)
            assert "val 0.950 @40" in screen_text(app)

    async def test_a_run_without_an_engine_is_lost(self, opened: Opened, folder: Path) -> None:
        run = write_run(folder / "adapters", RECIPE, trained_run(RECIPE, 40))
        app = opened(follow=run)
        async with app.run_test(size=(120, 40)) as pilot:
            while place(app).run is None:
                await pilot.pause()
            await pilot.pause()
            assert "? LOST" in screen_text(app)

    async def test_the_folders_live_run_is_followed(self, opened: Opened, folder: Path) -> None:
        run = write_run(folder / "adapters", RECIPE, trained_run(RECIPE, 40))
        app = opened()
        with run.locked():
            async with app.run_test(size=(120, 40)) as pilot:
                while "● RUNNING  40/225" not in screen_text(app):
                    await pilot.pause(0.02)
                assert app.current_mode == "data"

    async def test_appended_events_are_shown(self, opened: Opened, folder: Path) -> None:
        run = write_run(folder / "adapters", RECIPE, trained_run(RECIPE, 3))
        app = opened(follow=run)
        async with app.run_test(size=(120, 40)) as pilot:
            while place(app).run is None:
                await pilot.pause()
            with run.journal_file.open("ab") as journal:
                journal.write(ev.encode(ended(3)) + b"\n")
            while "FINISHED" not in screen_text(app):
                await pilot.pause(0.02)

    async def test_an_unchanged_journal_changes_no_state(
        self, opened: Opened, folder: Path
    ) -> None:
        run = write_run(
            folder / "adapters", RECIPE, [*trained_run(RECIPE, 40), ended(40, "stopped")]
        )
        app = opened(follow=run)
        async with app.run_test(size=(120, 40)) as pilot:
            while place(app).run is None:
                await pilot.pause()
            before = place(app).run
            await pilot.pause(0.6)
            assert place(app).run is before


class TestModel:
    async def test_the_recipes_model_is_opened(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test() as pilot:
            await settled(pilot, "model")
            assert place(app).model is not None
            assert place(app).model_progress is None

    async def test_changing_the_recipes_model_opens_it(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test() as pilot:
            await settled(pilot, "model")
            place(app).change_recipe(Recipe(model="demo"))
            await pilot.pause()
            await settled(pilot, "model")
            assert OpenModel("demo") in session(app).scripted.commands

    async def test_a_cancelled_model_is_available_once_the_chat_has_opened_it(
        self, opened: Opened
    ) -> None:
        app = opened()
        session(app).scripted.refusal = "Opening the model was cancelled."
        async with app.run_test() as pilot:
            await settled(pilot)
            session(app).scripted.refusal = ""
            await pilot.press("4", "H", "i", "enter")
            await settled(pilot, "answer")
            assert place(app).model is not None
            assert place(app).model_progress is None

    async def test_a_failure_is_one_sentence(self, opened: Opened) -> None:
        app = opened()
        session(app).scripted.refusal = "models/x is not a model folder; config.json is missing."
        async with app.run_test() as pilot:
            await settled(pilot, "model")
            assert place(app).model is None
            assert place(app).model_progress == session(app).scripted.refusal

    async def test_opening_progress_is_in_the_run_bar(self, opened: Opened) -> None:
        app = opened()
        session(app).scripted.progress = ev.ProgressMade(stage="importing", done=9, total=20)
        async with app.run_test(size=(80, 24)) as pilot:
            await settled(pilot, "model")
            assert "○ model: importing 45%" in screen_text(app)

    async def test_without_a_model_the_remedy_is_shown(self, opened: Opened) -> None:
        app = opened(recipe=Recipe())
        async with app.run_test() as pilot:
            await settled(pilot, "model")
            assert "Recipe screen (2)" in str(place(app).model_progress)


class TestLaunch:
    async def test_start_saves_the_recipe_and_shows_a_new_run(
        self, opened: Opened, folder: Path
    ) -> None:
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            place(app).post_message(TrainingRequested())
            await pilot.pause()
            await settled(pilot, "launch")
            (run,) = session(app).launched
            assert app.current_mode == "train"
            assert run.path.parent == folder / "adapters"
            assert run.recipe().data == str(folder / "data")
            assert "iters: 225" in (folder / "recipe.yaml").read_text()

    async def test_a_refused_start_is_one_sentence(self, opened: Opened, folder: Path) -> None:
        (folder / "adapters").write_text("not a folder")
        app = opened()
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            place(app).post_message(TrainingRequested())
            await pilot.pause()
            await settled(pilot, "launch")
            assert "a run can't be created there" in words(app, "Toast")

    async def test_an_engine_that_fails_to_start_is_reported(
        self, opened: Opened, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def launch(_: object, directory: RunDirectory) -> None:
            raise EngineError(f"The engine failed to start; {directory.log_file} says why.")

        monkeypatch.setattr(QuietSession, "launch", launch)
        app = opened()
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            place(app).post_message(TrainingRequested())
            await settled(pilot)
            assert "The engine failed to start" in words(app, "Toast")
            while "? LOST" not in screen_text(app):
                await pilot.pause(0.02)

    @pytest.mark.parametrize(("traceback", "kept"), [(False, False), (True, True)])
    async def test_a_run_that_fails_before_its_first_step_is_shown_and_not_kept(
        self,
        opened: Opened,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        traceback: bool,
        kept: bool,
    ) -> None:
        def launch(_: object, directory: RunDirectory) -> None:
            failed = ev.RunFailed(
                message="The model is not there.", step=0, log="engine.log", traceback=traceback
            )
            with contextlib.closing(JournalWriter(directory.journal_file)) as journal:
                journal.append(failed)

        monkeypatch.setattr(QuietSession, "launch", launch)
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            place(app).post_message(TrainingRequested())
            await settled(pilot)
            while "t train again" not in screen_text(app):
                await pilot.pause(0.02)
            if not kept:
                await settled(pilot, "follow")
            assert any((folder / "adapters").iterdir()) == kept
            shown = screen_text(app)
            assert "The model is not there." in shown
            assert ("restart it" in shown, "r Resume" in shown) == (kept, kept)
            assert "t train again" in shown

    async def test_without_a_model_nothing_is_started(self, opened: Opened) -> None:
        app = opened(recipe=Recipe())
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            place(app).post_message(TrainingRequested())
            await settled(pilot)
            assert "No model selected" in words(app, "Toast")
            assert session(app).launched == []

    async def test_faulty_data_is_refused_before_a_run_is_created(
        self, opened: Opened, folder: Path
    ) -> None:
        (folder / "data" / "train.jsonl").write_text('{"prompt": "a question"}\n')
        app = opened()
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            place(app).post_message(TrainingRequested())
            await settled(pilot)
            assert "line 1: the record has no completion" in words(app, "Toast")
            assert not (folder / "adapters").exists()

    async def test_resume_starts_an_engine_on_the_same_run(
        self, opened: Opened, folder: Path
    ) -> None:
        run = write_run(folder / "adapters", RECIPE, [*trained_run(RECIPE, 40), ended(40)])
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            place(app).post_message(ResumeRequested(run))
            await pilot.pause()
            await settled(pilot, "launch")
            assert session(app).launched == [run]
            assert app.current_mode == "train"

    async def test_a_held_key_starts_one_engine(
        self, opened: Opened, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        released = threading.Event()

        def launch(session: QuietSession, directory: RunDirectory) -> None:
            session.launched.append(directory)
            released.wait()

        monkeypatch.setattr(QuietSession, "launch", launch)
        run = write_run(folder / "adapters", RECIPE, trained_run(RECIPE, 40))
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            place(app).post_message(ResumeRequested(run))
            while not session(app).launched:
                await pilot.pause()
            for _ in range(3):
                place(app).post_message(ResumeRequested(run))
                await pilot.pause()
            released.set()
            await settled(pilot, "launch")
            assert session(app).launched == [run]

    async def test_a_deleted_run_is_no_longer_followed(self, opened: Opened, folder: Path) -> None:
        run = write_run(folder / "adapters", RECIPE, trained_run(RECIPE, 40))
        app = opened(follow=run)
        async with app.run_test(size=(80, 24)) as pilot:
            while place(app).run is None:
                await pilot.pause()
            shutil.rmtree(run.path)
            place(app).post_message(ResumeRequested(run))
            await pilot.pause()
            await settled(pilot, "launch")
            while place(app).run is not None:
                await pilot.pause()

    async def test_ctrl_q_quits_from_a_dialog(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            await settled(pilot)
            await pilot.press("question_mark", "ctrl+q")
            assert not app.is_running

    async def test_errors_during_exit_are_ignored(self, opened: Opened) -> None:
        def fail() -> None:
            raise RuntimeError("a widget is gone")

        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            app.exit(return_code=143)
            app.screen.call_later(fail)
        assert app.return_code == 143

    async def test_after_deletion_elsewhere_the_newest_run_is_followed(
        self, opened: Opened, folder: Path
    ) -> None:
        kept = write_run(folder / "adapters", RECIPE, trained_run(RECIPE, 30))
        deleted = write_run(folder / "adapters", RECIPE, trained_run(RECIPE, 40))
        app = opened(follow=deleted)
        async with app.run_test(size=(80, 24), notifications=True) as pilot:
            while place(app).run is None:
                await pilot.pause()
            shutil.rmtree(deleted.path)
            while (run := place(app).run) is None or run.directory.name != kept.name:
                await pilot.pause(0.05)
            assert f"{deleted.name} was deleted." in screen_text(app)

    async def test_resume_can_change_the_recipe(self, opened: Opened, folder: Path) -> None:
        run = write_run(folder / "adapters", RECIPE, [*trained_run(RECIPE, 40), ended(40)])
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            place(app).post_message(ResumeRequested(run, {"learning_rate": 1e-4}))
            await pilot.pause()
            await settled(pilot, "launch")
            assert session(app).launched == [run]
            assert run.recipe().learning_rate == 1e-4

    async def test_a_live_runs_recipe_cannot_be_changed(self, opened: Opened, folder: Path) -> None:
        run = write_run(folder / "adapters", RECIPE, [*trained_run(RECIPE, 40), ended(40)])
        app = opened()
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            with run.locked():
                place(app).post_message(ResumeRequested(run, {"learning_rate": 1e-4}))
                await pilot.pause()
                await settled(pilot, "launch")
            assert session(app).launched == []
            assert run.recipe().learning_rate == RECIPE.learning_rate

    async def test_a_command_without_a_run_is_refused(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            place(app).post_message(CommandIssued(Pause()))
            await pilot.pause()
            assert "No run to control" in words(app, "Toast")

    async def test_a_command_to_an_ended_run_is_refused(self, opened: Opened, folder: Path) -> None:
        run = write_run(folder / "adapters", RECIPE, [*trained_run(RECIPE, 3), ended(3)])
        app = opened(follow=run)
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            place(app).post_message(CommandIssued(Pause()))
            await pilot.pause()
            await settled(pilot, "commands")
            assert "The Train screen resumes an unfinished run." in words(app, "Toast")
            refused = place(app).refused
            assert refused is not None
            assert refused.command == Pause()


class TestHelp:
    async def test_it_lists_screen_and_global_keys(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(200, 60)) as pilot:
            await pilot.press("5", "question_mark")
            shown = screen_text(app)
            assert "This screen" in shown
            assert "Everywhere" in shown
            assert "Quit; runs keep running" in shown
            await pilot.press("escape")
            assert app.screen is place(app)

    async def test_the_palette_switches_screens_without_a_blinking_cursor(
        self, opened: Opened
    ) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("ctrl+p")
            assert not app.screen.query_one(Input).cursor_blink
            await pilot.press(*"recipe")
            while not app.screen.query("OptionList").first().option_count:  # type: ignore[attr-defined]
                await pilot.pause()
            await pilot.press("enter")
            while app.current_mode != "recipe":
                await pilot.pause()

    async def test_a_theme_is_found_by_name(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            assert app.screen.styles.background == Color.parse(str(DARK.background))
            await pilot.press("ctrl+p")
            await pilot.press(*"mlxft-light")
            while "mlxft-light" not in words(app, "OptionList"):
                await pilot.pause()
            await pilot.press("enter")
            while app.screen.styles.background != Color.parse(str(LIGHT.background)):
                await pilot.pause()
            await pilot.press("2")
            assert app.screen.styles.background == Color.parse(str(LIGHT.background))


class TestSnapshots:
    def test_help(self, opened: Opened, snap_compare: Any) -> None:
        async def before(pilot: Any) -> None:
            await settled(pilot)
            await pilot.press("5", "question_mark")
            await settled(pilot)

        assert snap_compare(opened(), terminal_size=(80, 24), run_before=before)

    def test_small(self, opened: Opened, folder: Path, snap_compare: Any) -> None:
        run = write_run(folder / "adapters", RECIPE, [*trained_run(RECIPE, 40), ended(40)])

        async def before(pilot: Any) -> None:
            while place(pilot.app).run is None:
                await pilot.pause()
            await settled(pilot)

        assert snap_compare(opened(follow=run), terminal_size=(60, 16), run_before=before)


class TestSizes:
    async def test_a_small_terminal_shows_run_bar_and_log(
        self, opened: Opened, folder: Path
    ) -> None:
        run = write_run(
            folder / "adapters", RECIPE, [*trained_run(RECIPE, 40), ended(40, "stopped")]
        )
        app = opened(follow=run)
        async with app.run_test(size=(60, 16)) as pilot:
            while place(app).run is None:
                await pilot.pause()
            await pilot.pause()
            shown = screen_text(app)
            assert "■ STOPPED" in shown
            assert "validation 0.950" in shown
            assert "Full screens need 80×24." in shown

    async def test_a_tiny_terminal_shows_the_required_size(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(38, 10)) as pilot:
            await pilot.pause()
            assert "38×10 is too small; use at least" in screen_text(app)


class TestExit:
    async def test_q_exits_silently_without_a_run(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test() as pilot:
            await pilot.press("q")
        assert app.return_code == 0

    async def test_a_crash_is_one_sentence_and_a_traceback_in_the_log(
        self, opened: Opened, capsys: pytest.CaptureFixture[str]
    ) -> None:
        app = opened()
        with pytest.raises(ZeroDivisionError):
            await run_failing(app)
        assert app.return_code == 1
        assert "ZeroDivisionError" in log_file().read_text()
        errors = capsys.readouterr().err
        assert "Traceback" not in errors
        assert "mlxft-tui crashed; see" in " ".join(errors.split())


async def run_failing(app: MlxftApp) -> None:
    async with app.run_test() as pilot:
        app.call_later(lambda: 1 / 0)
        await pilot.pause()
