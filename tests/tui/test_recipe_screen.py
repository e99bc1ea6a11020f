"""The Recipe screen: the form, the costs of each change, presets and files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input

from mlxft import recipe as recipes
from mlxft.memory.calibration import measured_peak, remember
from mlxft.memory.estimator import estimate
from mlxft.memory.shapes import ModelShapes
from mlxft.recipe import GROUPS, PARAMETERS, Recipe
from mlxft.recipe.presets import PRESETS
from mlxft.telemetry.sample import Sample
from mlxft.telemetry.sampler import Sampler
from mlxft_tui.recipe.form import ROWS, RecipeRows, differs
from mlxft_tui.recipe.screen import RecipeScreen
from mlxft_tui.widgets import notices
from support.journal import RUN_START, data_prepared, ended, trained_run, write_run
from support.records import SMOLLM2
from support.session import RECIPE, SIZES, Opened, place, screen_text, session, settled, words

pytestmark = pytest.mark.usefixtures("fixed_clock")

HUGE = ["batch_size=64", "num_layers=-1"]


async def opened_at(pilot: Any, key: str) -> None:
    """Open the Recipe screen with the cursor on a parameter."""
    await settled(pilot)
    await pilot.press("2")
    await settled(pilot)
    names = [row.parameter.key if row.parameter else "" for row in ROWS]
    pilot.app.screen.query_one(RecipeRows).cursor = names.index(key)
    await pilot.pause()


@pytest.mark.usefixtures("round_memory")
class TestAppearance:
    @pytest.mark.parametrize("size", SIZES)
    def test_form_and_costs(self, opened: Opened, snap_compare: Any, size: tuple[int, int]) -> None:
        async def before(pilot: Any) -> None:
            await opened_at(pilot, "learning_rate")

        assert snap_compare(opened(), terminal_size=size, run_before=before)

    @pytest.mark.parametrize("size", SIZES)
    def test_too_large_with_advice(
        self, opened: Opened, snap_compare: Any, size: tuple[int, int]
    ) -> None:
        async def before(pilot: Any) -> None:
            await opened_at(pilot, "batch_size")

        recipe = recipes.apply_settings(RECIPE, HUGE)
        assert snap_compare(opened(recipe), terminal_size=size, run_before=before)

    @pytest.mark.parametrize("size", SIZES)
    def test_typing_an_invalid_value(
        self, opened: Opened, snap_compare: Any, size: tuple[int, int]
    ) -> None:
        async def before(pilot: Any) -> None:
            await opened_at(pilot, "learning_rate")
            await pilot.press("enter", "5", "x")
            await pilot.pause()

        assert snap_compare(opened(), terminal_size=size, run_before=before)


class TestForm:
    def test_every_parameter_has_a_row_under_its_group(self) -> None:
        keys = [row.parameter.key for row in ROWS if row.parameter]
        assert set(keys) == {*PARAMETERS, "epochs"}
        assert [row.heading for row in ROWS if row.heading] == list(GROUPS)

    async def test_up_and_down_skip_the_headings(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            await opened_at(pilot, "resume_adapter_file")
            await pilot.press("down")
            assert app.screen.query_one(RecipeRows).parameter.key == "data"
            await pilot.press("k")
            assert app.screen.query_one(RecipeRows).parameter.key == "resume_adapter_file"

    async def test_left_and_right_step_along_the_scale(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            await opened_at(pilot, "learning_rate")
            await pilot.press("right")
            await pilot.pause()
            assert place(app).recipe.learning_rate == 5e-4
            await pilot.press("h", "h")
            await pilot.pause()
            assert place(app).recipe.learning_rate == 1e-4

    async def test_no_step_of_a_burst_is_lost(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            await opened_at(pilot, "batch_size")
            rows = app.screen.query_one(RecipeRows)
            for _ in range(5):
                rows.action_step(1)
            await pilot.pause()
            assert place(app).recipe.batch_size == RECIPE.batch_size + 5

    async def test_a_typed_value_is_accepted(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            await opened_at(pilot, "batch_size")
            await pilot.press("enter", "8", "enter")
            await pilot.pause()
            assert place(app).recipe.batch_size == 8
            assert isinstance(app.focused, RecipeRows)

    async def test_an_invalid_value_is_explained_while_it_is_typed(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            await opened_at(pilot, "batch_size")
            await pilot.press("enter", "0", "enter")
            await pilot.pause()
            assert "batch_size is 0; it must be a whole number from 1 to 4096." in words(app)
            assert place(app).recipe.batch_size == RECIPE.batch_size
            await pilot.press("escape")
            await pilot.pause()
            assert not app.screen.query_one("RecipeForm Input", Input).display

    async def test_what_is_typed_stays_in_view_when_the_terminal_shrinks(
        self, opened: Opened
    ) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await opened_at(pilot, "learning_rate")
            await pilot.press("enter", *"7e-5")
            await pilot.resize_terminal(80, 24)
            while not re.search("learning_rate +7e-5 ", screen_text(app)):
                await pilot.pause()

    async def test_the_help_and_effects_of_the_parameter_are_beside(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await opened_at(pilot, "grad_checkpoint")
            note = words(app, "#note")
            assert "grad_checkpoint true or false; the default is off" in note
            effect = PARAMETERS["grad_checkpoint"].declared.effect
            assert f"memory {effect.memory} speed {effect.speed} quality {effect.quality}" in note

    @pytest.mark.usefixtures("round_memory")
    async def test_the_cost_of_a_step_is_shown_before_it_is_made(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await opened_at(pilot, "batch_size")
            note = words(app, "#note")
            assert re.search(r"← 3 −1.80 GB, −[\d:]+.* → 5 \+1.80 GB, \+[\d:]+", note), note

    async def test_layers_step_no_further_than_the_model_has(self, opened: Opened) -> None:
        app = opened(recipes.replace(RECIPE, "num_layers", 29))
        async with app.run_test(size=(80, 24)) as pilot:
            await opened_at(pilot, "num_layers")
            await pilot.press("right", "right", "right")
            await pilot.pause()
            assert place(app).recipe.num_layers == 30

    async def test_what_the_loss_does_not_read_is_marked(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            await opened_at(pilot, "loss")
            await pilot.press("right")
            await pilot.pause()
            assert "label_smoothing 0 not" not in words(app)
            assert "simpo_gamma 0.5 unused" in words(app)
            assert "desirable_weight 1 not with dpo" in words(app)

    async def test_what_differs_from_the_defaults_is_marked(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(200, 60)) as pilot:
            await opened_at(pilot, "seed")
            shown = screen_text(app)
            assert "* learning_rate" in shown
            assert "* seed" not in shown
            await pilot.press("right")
            await pilot.pause()
            assert "* seed" in screen_text(app)

    async def test_changes_are_undone_one_by_one(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            await opened_at(pilot, "seed")
            await pilot.press("right", "right", "u")
            await pilot.pause()
            assert place(app).recipe.seed == 1
            await pilot.press("u", "u")
            await pilot.pause()
            assert place(app).recipe == RECIPE

    async def test_help_explains_the_terms(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await opened_at(pilot, "seed")
            await pilot.press("question_mark")
            await pilot.pause()
            for term in ("recipe", "adapter", "rank", "scale", "step"):
                assert re.search(rf"\b{term}\b", words(app, "#help"))

    async def test_the_input_does_not_blink(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            await opened_at(pilot, "seed")
            assert not app.screen.query_one("RecipeForm Input", Input).cursor_blink


class TestEpochs:
    async def test_they_follow_from_the_steps(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await opened_at(pilot, "iters")
            assert "225 × 4 = 3 epochs" in screen_text(app)

    async def test_the_steps_follow_from_them(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await opened_at(pilot, "epochs")
            await pilot.press("right")
            await pilot.pause()
            assert place(app).recipe.iters == 300
            await pilot.press("enter", "2", "enter")
            await pilot.pause()
            assert place(app).recipe.iters == 150


class TestCosts:
    async def test_memory_changes_with_each_key(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await opened_at(pilot, "batch_size")
            before = screen_text(app)
            assert "of 14.0" in before
            await pilot.press("right")
            await pilot.pause()
            assert memory_line(screen_text(app)) != memory_line(before)

    async def test_fit_says_that_a_recipe_fits(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            await opened_at(pilot, "seed")
            await pilot.press("f")
            shown = [each.message for each in app._notifications]
            assert shown == ["It fits as it is; there is nothing to change."]

    async def test_fit_makes_a_recipe_fit(self, opened: Opened) -> None:
        app = opened(recipes.apply_settings(RECIPE, [*HUGE, "packing=true", "max_seq_length=8192"]))
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            await opened_at(pilot, "batch_size")
            assert "too much" in screen_text(app)
            await pilot.press("f")
            await pilot.pause()
            assert "✗" not in memory_line(screen_text(app))
            note = words(app, "#note")
            assert "It fits with" in note
            assert "grad_checkpoint off → on −" in note
            assert "batch_size 64 → " in note
            await pilot.press("u")
            await pilot.pause()
            assert place(app).recipe.batch_size == 64

    async def test_a_batch_larger_than_the_training_set_does_not_fit(self, opened: Opened) -> None:
        app = opened(recipes.apply_settings(RECIPE, ["batch_size=400", "max_seq_length=8"]))
        async with app.run_test(size=(120, 40)) as pilot:
            await opened_at(pilot, "batch_size")
            assert "✗ refused: too few records" in words(app)
            await pilot.press("f")
            await pilot.pause()
            assert place(app).recipe.batch_size == 300
            assert "batch_size 400 → 300" in words(app, "#note")

    async def test_advice_about_such_a_batch_comes_first(self, opened: Opened) -> None:
        app = opened(recipes.apply_settings(RECIPE, ["batch_size=400", "num_layers=-1"]))
        async with app.run_test(size=(120, 40)) as pilot:
            await opened_at(pilot, "batch_size")
            await pilot.press("a")
            await pilot.pause()
            assert place(app).recipe.batch_size == 75

    async def test_a_applies_advice(self, opened: Opened) -> None:
        app = opened(recipes.replace(RECIPE, "learning_rate", 1e-6))
        async with app.run_test(size=(120, 40)) as pilot:
            await opened_at(pilot, "seed")
            assert "Set learning_rate to 5e-5" in words(app)
            await pilot.press("a")
            await pilot.pause()
            assert place(app).recipe.learning_rate == 5e-5
            assert "applied learning_rate 1e-6 → 5e-5" in words(app, "#note")

    async def test_the_time_comes_from_a_comparable_run(self, opened: Opened, folder: Path) -> None:
        recipe = recipes.replace(RECIPE, "val_batches", 0)
        past = recipes.replace(recipe, "batch_size", 2)
        write_run(folder / "adapters", past, [*trained_run(past, 20), ended(20)])
        app = opened(recipe)
        async with app.run_test(size=(120, 40)) as pilot:
            await opened_at(pilot, "seed")
            assert "3:45 at 800 tok/s" in screen_text(app)
            assert "from smollm2-lora-1" in screen_text(app)

    async def test_the_end_time_is_updated_while_the_screen_is_open(
        self, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await opened_at(pilot, "seed")
            before = re.findall(r"done at (.*?\d\d:\d\d)", words(app))
            monkeypatch.setattr(RecipeScreen, "clock", staticmethod(lambda: RUN_START + 600))
            screen = place(app)
            assert isinstance(screen, RecipeScreen)
            screen.update_end_time()
            await pilot.pause()
            after = re.findall(r"done at (.*?\d\d:\d\d)", words(app))
            assert len(before) == len(after) == 1
            assert before != after

    async def test_without_runs_the_time_comes_from_the_chip(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await opened_at(pilot, "seed")
            assert "from Apple M3 Pro specs" in words(app)
            assert "done at" in words(app)

    async def test_memory_is_known_before_the_model_is_opened(
        self, opened: Opened, folder: Path
    ) -> None:
        """A folder with a config.json is enough; why the model can't be opened is shown too."""
        app = opened()
        session(app).scripted.refusal = "There are no weights."
        model = folder / RECIPE.model
        model.mkdir(parents=True)
        (model / "config.json").write_text(json.dumps(SMOLLM2))
        async with app.run_test(size=(120, 40)) as pilot:
            await opened_at(pilot, "batch_size")
            shown = words(app, "#effect")
            assert "weights" in shown
            assert "! There are no weights." in shown

    async def test_finished_runs_correct_it(self, opened: Opened) -> None:
        shapes = ModelShapes.from_config(SMOLLM2)
        for share in (1.2, 1.25):
            expected = estimate(shapes, RECIPE, "metal", None, 33)
            estimated = expected.activations + expected.loss
            remember(
                measured_peak(
                    run=f"run-{share}",
                    recipe=RECIPE,
                    config=SMOLLM2,
                    longest=33,
                    kind="metal",
                    device="Apple M3 Pro",
                    mlx="0.32.4",
                    measured=round(expected.peak + (share - 1) * estimated),
                    time=0.0,
                )
            )
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await opened_at(pilot, "batch_size")
            assert re.search(r"± 2%, corrected ×1.2[23] by 2 runs here", words(app, "#effect"))

    @pytest.mark.parametrize("trained", [False, True])
    async def test_the_train_screen_shows_the_same_estimate(
        self, opened: Opened, folder: Path, trained: bool
    ) -> None:
        """Also after a run, which corrects it."""
        shapes = ModelShapes.from_config(SMOLLM2)
        expected = estimate(shapes, RECIPE, "metal", None, 33)
        if trained:
            write_run(
                folder / "adapters",
                RECIPE,
                [*trained_run(RECIPE, 3), data_prepared(longest=30), ended(3)],
            )
            remember(
                measured_peak(
                    run="run",
                    recipe=RECIPE,
                    config=SMOLLM2,
                    longest=33,
                    kind="metal",
                    device="Apple M3 Pro",
                    mlx="0.32.4",
                    measured=expected.peak + (expected.activations + expected.loss) // 2,
                    time=0.0,
                )
            )
        app = opened()
        async with app.run_test(size=(160, 50)) as pilot:
            await opened_at(pilot, "batch_size")
            found = re.search(r"MLX peak ([\d.]+) GB \(shown on Train\)", words(app, "#effect"))
            assert found is not None
            assert trained == ("corrected ×" in words(app, "#effect"))
            await pilot.press("3")
            await settled(pilot)
            shown = screen_text(app)
            assert f"estimate {found[1]} of" in shown, shown

    async def test_what_other_programs_use_counts(
        self, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        full = Sample(time=RUN_START, memory_used=17_900_000_000, memory_total=18 * 10**9)
        monkeypatch.setattr(Sampler, "sample", lambda _: full)
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await opened_at(pilot, "batch_size")
            shown = words(app, "#effect")
            assert "! close other programs" in shown
            assert "other programs use 17.9 of 18.0 GB" in shown

    async def test_without_a_model_the_reason_is_shown(self, opened: Opened) -> None:
        app = opened(Recipe())
        async with app.run_test(size=(120, 40)) as pilot:
            await opened_at(pilot, "seed")
            assert "Memory needs the model: choose a value for model" in words(app)
            assert words(app, "StartLine") == "choose a model first; m lists them"
            assert "✗ choose a value for model, at the top." in screen_text(app).splitlines()[1]


class TestForeignConfigs:
    async def test_an_adapter_path_is_said_once(
        self, opened: Opened, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(notices, "SENTENCE_SECONDS", 600.0)
        (folder / "recipe.yaml").write_text("model: m\nadapter_path: elsewhere\n")
        app = opened()
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            for key in ("2", "1", "2"):
                await pilot.press(key)
                await settled(pilot)
            assert screen_text(app).count("adapter_path elsewhere") == 1


class TestPresets:
    async def test_p_lists_them_and_u_undoes_the_choice(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await opened_at(pilot, "seed")
            await pilot.press("p")
            await pilot.pause()
            for preset in PRESETS:
                assert preset.name in screen_text(app)
                assert preset.purpose in words(app, "#about")
                await pilot.press("down")
                await pilot.pause()
            await pilot.press("home", "enter")
            await pilot.pause()
            assert place(app).recipe.num_layers == 1
            assert "changed to one layer" in words(app, "#note")
            assert "num_layers 16 → 1" in words(app, "#note")
            await pilot.press("u")
            await pilot.pause()
            assert place(app).recipe == RECIPE
            await pilot.press("U")
            await pilot.pause()
            assert place(app).recipe.num_layers == 1

    async def test_d_compares_with_an_earlier_run(self, opened: Opened, folder: Path) -> None:
        past = recipes.replace(RECIPE, "batch_size", 2)
        write_run(folder / "adapters", past, [*trained_run(past, 20), ended(20)])
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await opened_at(pilot, "seed")
            await pilot.press("d", "end", "enter")
            await pilot.pause()
            assert "against smollm2-lora-1" in words(app, "#note")
            assert "batch_size 2 → 4" in words(app, "#note")
            rows = app.screen.query_one(RecipeRows)
            marked = [
                row.parameter.key
                for row in ROWS
                if row.parameter and differs(rows.recipe, rows.base, row.parameter)
            ]
            assert marked == ["batch_size"]

    async def test_an_earlier_run_can_be_started_from(self, opened: Opened, folder: Path) -> None:
        past = recipes.replace(RECIPE, "batch_size", 2)
        write_run(folder / "adapters", past, [*trained_run(past, 20), ended(20)])
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await opened_at(pilot, "seed")
            await pilot.press("p", "end", "enter")
            await pilot.pause()
            assert place(app).recipe == past

    async def test_escape_cancels(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            await opened_at(pilot, "seed")
            await pilot.press("p", "escape")
            await pilot.pause()
            assert place(app).recipe == RECIPE


class TestCopy:
    async def test_y_copies_the_mlx_lm_command(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            await opened_at(pilot, "seed")
            await pilot.press("y")
            await pilot.pause()
            assert app.clipboard.startswith("mlx_lm.lora --train")

    async def test_it_has_the_demos_folder_and_no_more_layers_than_the_model(
        self, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MLXFT_CACHE", str(tmp_path))
        folder = tmp_path / "models" / "SmolLM2-135M-Instruct"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(SMOLLM2))
        app = opened(recipes.apply_settings(RECIPE, ["model=demo", "num_layers=99"]))
        async with app.run_test(size=(80, 24)) as pilot:
            await opened_at(pilot, "seed")
            await pilot.press("y")
            await pilot.pause()
            assert f"--model {folder} " in app.clipboard
            assert "--num-layers 30" in app.clipboard


class TestFilesAndRuns:
    async def test_ctrl_s_writes_the_recipe(self, opened: Opened, folder: Path) -> None:
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            await opened_at(pilot, "seed")
            await pilot.press("right", "ctrl+s")
            await pilot.pause()
        assert recipes.load(folder / "recipe.yaml") == recipes.replace(RECIPE, "seed", 1)

    async def test_o_loads_a_file(self, opened: Opened, folder: Path) -> None:
        recipes.save(recipes.replace(RECIPE, "iters", 77), folder / "other.yaml")
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            await opened_at(pilot, "seed")
            await pilot.press("o")
            await pilot.pause()
            app.screen.query_one("AskLine Input", Input).value = "other.yaml"
            await pilot.press("enter")
            await pilot.pause()
            assert place(app).recipe.iters == 77

    async def test_t_starts_a_run(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            await opened_at(pilot, "seed")
            await pilot.press("t")
            await settled(pilot)
            assert len(session(app).launched) == 1
            assert app.current_mode == "train"

    async def test_no_second_run_while_one_is_live(self, opened: Opened, folder: Path) -> None:
        run = write_run(folder / "adapters", RECIPE, trained_run(RECIPE, 5))
        with run.locked():
            app = opened()
            async with app.run_test(size=(120, 40), notifications=True) as pilot:
                await opened_at(pilot, "seed")
                await pilot.press("t")
                shown = [each.message for each in app._notifications]
                assert shown == ["A run is in progress; 3 shows it."]
                assert session(app).launched == []

    async def test_a_click_starts_a_run(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            await opened_at(pilot, "seed")
            await pilot.click("StartLine")
            await settled(pilot)
            assert len(session(app).launched) == 1


def memory_line(text: str) -> str:
    """The line with the total."""
    return next(line for line in text.splitlines() if " of 14.0" in line)
