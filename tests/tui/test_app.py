"""The application: its places, what it follows, and how it is left."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from mlxft.engine.protocol import OpenModel, Pause
from mlxft.errors import EngineError
from mlxft.recipe import Recipe
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory
from mlxft_tui.app import MlxftApp
from mlxft_tui.frame.messages import (
    CommandIssued,
    RecipeChanged,
    ResumeRequested,
    TrainingRequested,
)
from support.quiet import RECIPE, Opened, QuietSession, place, session, settled, words
from support.scripted import finished, training, write_run
from support.synthetic import screen_text


class TestPlaces:
    async def test_the_first_place_is_the_data(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(80, 24)):
            assert app.current_mode == "data"

    @pytest.mark.parametrize(
        ("key", "mode"),
        [("1", "data"), ("2", "recipe"), ("3", "train"), ("4", "chat"), ("5", "runs")],
    )
    async def test_a_number_goes_to_its_place(self, opened: Opened, key: str, mode: str) -> None:
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.press(key)
            assert app.current_mode == mode
            assert f"[{key} {mode.title()}]" in screen_text(app)

    async def test_a_function_key_leaves_a_field_of_text(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.press("4", "1", "f5")
            assert app.current_mode == "runs"

    async def test_a_place_shown_later_knows_what_the_first_one_knew(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            await settled(pilot)
            await pilot.press("2")
            assert place(app).recipe == RECIPE
            assert place(app).model is not None
            assert place(app).data is not None

    async def test_a_click_on_a_place_goes_there(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.click("ScreenBar", offset=(12, 0))
            assert app.current_mode == "recipe"

    async def test_following_a_run_begins_at_its_curve(self, opened: Opened, folder: Path) -> None:
        run = write_run(folder / "adapters", RECIPE, training(RECIPE, 3))
        app = opened(follow=run)
        async with app.run_test(size=(80, 24)):
            assert app.current_mode == "train"


class TestRecipeAtTheStart:
    async def test_the_folders_recipe_is_taken_up(self, opened: Opened, folder: Path) -> None:
        (folder / "recipe.yaml").write_text("model: demo\niters: 7\n")
        app = opened(recipe=None)
        async with app.run_test():
            assert place(app).recipe == Recipe(model="demo", iters=7)

    async def test_without_one_the_last_runs_model_is_taken(
        self, opened: Opened, folder: Path
    ) -> None:
        write_run(folder / "adapters", Recipe(model="demo", iters=7), [])
        app = opened(recipe=None)
        async with app.run_test():
            assert place(app).recipe == Recipe(model="demo")

    async def test_a_broken_one_is_said_and_kept(self, opened: Opened, folder: Path) -> None:
        (folder / "recipe.yaml").write_text("iterations: 7\n")
        app = opened(recipe=None)
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            await pilot.pause()
            assert "iterations is not a training parameter; did you mean iters?" in words(
                app, "Toast"
            )
        assert (folder / "recipe.yaml").read_text() == "iterations: 7\n"


class TestFollowing:
    async def test_a_run_is_shown_as_its_journal_tells_it(
        self, opened: Opened, folder: Path
    ) -> None:
        run = write_run(
            folder / "adapters", RECIPE, [*training(RECIPE, 40), finished(40, "stopped")]
        )
        app = opened(follow=run)
        async with app.run_test(size=(120, 40)) as pilot:
            while place(app).run is None:
                await pilot.pause()
            await pilot.pause()
            assert "■ STOPPED  40/225 17%" in screen_text(app)
            assert "val 0.950 @40" in screen_text(app)

    async def test_an_engine_that_vanished_is_called_lost(
        self, opened: Opened, folder: Path
    ) -> None:
        run = write_run(folder / "adapters", RECIPE, training(RECIPE, 40))
        app = opened(follow=run)
        async with app.run_test(size=(120, 40)) as pilot:
            while place(app).run is None:
                await pilot.pause()
            await pilot.pause()
            assert "? LOST" in screen_text(app)

    async def test_a_run_at_work_in_the_folder_is_followed_by_itself(
        self, opened: Opened, folder: Path
    ) -> None:
        run = write_run(folder / "adapters", RECIPE, training(RECIPE, 40))
        app = opened()
        with run.locked():
            async with app.run_test(size=(120, 40)) as pilot:
                while "● RUNNING  40/225" not in screen_text(app):
                    await pilot.pause(0.02)
                assert app.current_mode == "data"

    async def test_what_is_appended_is_shown(self, opened: Opened, folder: Path) -> None:
        run = write_run(folder / "adapters", RECIPE, training(RECIPE, 3))
        app = opened(follow=run)
        async with app.run_test(size=(120, 40)) as pilot:
            while place(app).run is None:
                await pilot.pause()
            with run.journal_file.open("ab") as journal:
                journal.write(ev.encode(finished(3)) + b"\n")
            while "FINISHED" not in screen_text(app):
                await pilot.pause(0.02)

    async def test_nothing_is_repainted_while_nothing_happens(
        self, opened: Opened, folder: Path
    ) -> None:
        run = write_run(
            folder / "adapters", RECIPE, [*training(RECIPE, 40), finished(40, "stopped")]
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

    async def test_another_model_is_opened_when_the_recipe_names_it(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test() as pilot:
            await settled(pilot, "model")
            place(app).post_message(RecipeChanged(Recipe(model="demo")))
            await pilot.pause()
            await settled(pilot, "model")
            assert OpenModel("demo") in session(app).scripted.commands

    async def test_what_was_broken_off_is_there_once_the_chat_has_opened_it(
        self, opened: Opened
    ) -> None:
        app = opened()
        session(app).scripted.refusal = "The opening of the model was broken off."
        async with app.run_test() as pilot:
            await settled(pilot)
            session(app).scripted.refusal = ""
            await pilot.press("4", "H", "i", "enter")
            await settled(pilot, "answer")
            assert place(app).model is not None
            assert place(app).model_progress is None

    async def test_a_refusal_is_one_sentence(self, opened: Opened) -> None:
        app = opened()
        session(app).scripted.refusal = "models/x is not a model folder; config.json is missing."
        async with app.run_test() as pilot:
            await settled(pilot, "model")
            assert place(app).model is None
            assert place(app).model_progress == session(app).scripted.refusal

    async def test_the_opening_is_told_in_the_run_bar(self, opened: Opened) -> None:
        app = opened()
        session(app).scripted.progress = ev.ProgressMade(stage="importing", done=9, total=20)
        async with app.run_test(size=(80, 24)) as pilot:
            await settled(pilot, "model")
            assert "○ model: importing 45%" in screen_text(app)

    async def test_without_a_model_the_way_to_one_is_told(self, opened: Opened) -> None:
        app = opened(recipe=Recipe())
        async with app.run_test() as pilot:
            await settled(pilot, "model")
            assert "Recipe screen (2)" in str(place(app).model_progress)


class TestTraining:
    async def test_a_start_keeps_the_recipe_makes_a_run_and_shows_it(
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
            assert "a run can't be made there" in words(app, "Toast")

    async def test_an_engine_that_does_not_come_up_is_said_and_shown(
        self, opened: Opened, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def launch(_: object, directory: RunDirectory) -> None:
            raise EngineError(f"The engine ended at its start; {directory.log_file} says why.")

        monkeypatch.setattr(QuietSession, "launch", launch)
        app = opened()
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            place(app).post_message(TrainingRequested())
            await settled(pilot)
            assert "The engine ended at its start" in words(app, "Toast")
            while "? LOST" not in screen_text(app):
                await pilot.pause(0.02)

    async def test_without_a_model_nothing_is_started(self, opened: Opened) -> None:
        app = opened(recipe=Recipe())
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            place(app).post_message(TrainingRequested())
            await settled(pilot)
            assert "No model is chosen" in words(app, "Toast")
            assert session(app).launched == []

    async def test_faulty_data_is_refused_before_a_run_is_made(
        self, opened: Opened, folder: Path
    ) -> None:
        (folder / "data" / "train.jsonl").write_text('{"prompt": "a question"}\n')
        app = opened()
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            place(app).post_message(TrainingRequested())
            await settled(pilot)
            assert "line 1: the record has no completion" in words(app, "Toast")
            assert not (folder / "adapters").exists()

    async def test_a_resume_starts_an_engine_on_the_same_run(
        self, opened: Opened, folder: Path
    ) -> None:
        run = write_run(folder / "adapters", RECIPE, [*training(RECIPE, 40), finished(40)])
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            place(app).post_message(ResumeRequested(run))
            await pilot.pause()
            await settled(pilot, "launch")
            assert session(app).launched == [run]
            assert app.current_mode == "train"

    async def test_a_key_held_down_starts_one_engine(
        self, opened: Opened, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = threading.Event()

        def launch(session: QuietSession, directory: RunDirectory) -> None:
            session.launched.append(directory)
            asked.wait()

        monkeypatch.setattr(QuietSession, "launch", launch)
        run = write_run(folder / "adapters", RECIPE, training(RECIPE, 40))
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            place(app).post_message(ResumeRequested(run))
            while not session(app).launched:
                await pilot.pause()
            for _ in range(3):
                place(app).post_message(ResumeRequested(run))
                await pilot.pause()
            asked.set()
            await settled(pilot, "launch")
            assert session(app).launched == [run]

    async def test_a_run_whose_folder_was_deleted_is_not_followed_any_more(
        self, opened: Opened, folder: Path
    ) -> None:
        run = write_run(folder / "adapters", RECIPE, training(RECIPE, 40))
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

    async def test_what_fails_while_the_application_ends_is_no_failure(
        self, opened: Opened
    ) -> None:
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            app.exit(return_code=143)
            app._handle_exception(RuntimeError("a widget is gone"))
        assert app.return_code == 143

    async def test_one_that_was_deleted_elsewhere_gives_way_to_the_newest(
        self, opened: Opened, folder: Path
    ) -> None:
        left = write_run(folder / "adapters", RECIPE, training(RECIPE, 30))
        gone = write_run(folder / "adapters", RECIPE, training(RECIPE, 40))
        app = opened(follow=gone)
        async with app.run_test(size=(80, 24), notifications=True) as pilot:
            while place(app).run is None:
                await pilot.pause()
            shutil.rmtree(gone.path)
            while (run := place(app).run) is None or run.directory.name != left.name:
                await pilot.pause(0.05)
            assert f"{gone.name} was deleted." in screen_text(app)

    async def test_a_resume_may_come_with_another_recipe(
        self, opened: Opened, folder: Path
    ) -> None:
        run = write_run(folder / "adapters", RECIPE, [*training(RECIPE, 40), finished(40)])
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            place(app).post_message(ResumeRequested(run, {"learning_rate": 1e-4}))
            await pilot.pause()
            await settled(pilot, "launch")
            assert session(app).launched == [run]
            assert run.recipe().learning_rate == 1e-4

    async def test_a_recipe_is_not_changed_under_an_engine(
        self, opened: Opened, folder: Path
    ) -> None:
        run = write_run(folder / "adapters", RECIPE, [*training(RECIPE, 40), finished(40)])
        app = opened()
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            with run.locked():
                place(app).post_message(ResumeRequested(run, {"learning_rate": 1e-4}))
                await pilot.pause()
                await settled(pilot, "launch")
            assert session(app).launched == []
            assert run.recipe().learning_rate == RECIPE.learning_rate

    async def test_a_command_without_a_run_is_refused_in_words(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            place(app).post_message(CommandIssued(Pause()))
            await pilot.pause()
            assert "There is no run to steer" in words(app, "Toast")

    async def test_a_command_to_an_ended_run_is_refused_in_words(
        self, opened: Opened, folder: Path
    ) -> None:
        run = write_run(folder / "adapters", RECIPE, [*training(RECIPE, 3), finished(3)])
        app = opened(follow=run)
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            place(app).post_message(CommandIssued(Pause()))
            await pilot.pause()
            await settled(pilot, "commands")
            assert "r on the Train screen (3) resumes a run" in words(app, "Toast")
            refused = place(app).refused
            assert refused is not None
            assert refused.command == Pause()


class TestHelp:
    async def test_it_lists_the_keys_of_this_place_and_of_all(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("5", "question_mark")
            shown = screen_text(app)
            assert "This screen" in shown
            assert "Everywhere" in shown
            assert "Leave; a run goes on" in shown
            await pilot.press("escape")
            assert app.screen is place(app)

    async def test_the_palette_goes_to_a_place_without_a_blinking_cursor(
        self, opened: Opened
    ) -> None:
        from textual.widgets import Input

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

    async def test_a_theme_is_found_by_its_name(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("ctrl+p")
            await pilot.press(*"mlxft-light")
            while "mlxft-light" not in words(app, "OptionList"):
                await pilot.pause()
            await pilot.press("enter")
            while app.theme != "mlxft-light":
                await pilot.pause()


class TestLooks:
    def test_help(self, opened: Opened, snap_compare: Any) -> None:
        async def before(pilot: Any) -> None:
            await settled(pilot)
            await pilot.press("5", "question_mark")
            await settled(pilot)

        assert snap_compare(opened(), terminal_size=(80, 24), run_before=before)

    def test_small(self, opened: Opened, folder: Path, snap_compare: Any) -> None:
        run = write_run(folder / "adapters", RECIPE, [*training(RECIPE, 40), finished(40)])

        async def before(pilot: Any) -> None:
            while place(pilot.app).run is None:
                await pilot.pause()
            await settled(pilot)

        assert snap_compare(opened(follow=run), terminal_size=(60, 16), run_before=before)


class TestSizes:
    async def test_a_small_terminal_gets_run_bar_and_log(
        self, opened: Opened, folder: Path
    ) -> None:
        run = write_run(
            folder / "adapters", RECIPE, [*training(RECIPE, 40), finished(40, "stopped")]
        )
        app = opened(follow=run)
        async with app.run_test(size=(60, 16)) as pilot:
            while place(app).run is None:
                await pilot.pause()
            await pilot.pause()
            shown = screen_text(app)
            assert "■ STOPPED" in shown
            assert "validation 0.950" in shown
            assert "The screens need 80×24." in shown

    async def test_a_tiny_one_is_told_what_is_needed(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(38, 10)) as pilot:
            await pilot.pause()
            assert "38×10 is too small; make it" in screen_text(app)


class TestLeaving:
    async def test_q_leaves_quietly_when_nothing_runs(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test() as pilot:
            await pilot.press("q")
        assert app.return_code == 0

    async def test_a_failure_is_one_sentence_and_a_traceback_in_the_log(
        self, opened: Opened, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        app = opened()
        with pytest.raises(ZeroDivisionError):
            await run_failing(app)
        assert app.return_code == 1
        assert "ZeroDivisionError" in (tmp_path / "logs" / "mlxft-tui.log").read_text()
        said = capsys.readouterr().err
        assert "Traceback" not in said
        assert "mlxft-tui.log says where" in " ".join(said.split())


async def run_failing(app: MlxftApp) -> None:
    async with app.run_test() as pilot:
        app.call_later(lambda: 1 / 0)
        await pilot.pause()
