"""The run bar's line, and what it drops on narrow terminals."""

from __future__ import annotations

import pytest

from mlxft import recipe as recipes
from mlxft.recipe import Recipe
from mlxft.runs import events as ev
from mlxft.runs.view import RunView, State, fold
from mlxft_tui.frame.run_bar import RunLineWriter, adapter_kind, fit, model_name
from support.journal import ended, trained_run

RECIPE = Recipe(model="mlx-community/Qwen3-0.6B-4bit", iters=1000)
RUNNING = fold(RunView(), trained_run(RECIPE, 412))


def shown(view: RunView, state: str, width: int) -> str:
    now = view.last_time or 0.0
    return fit(RunLineWriter().of_run(RECIPE, view, state, now), width).plain  # type: ignore[arg-type]


class TestContents:
    def test_a_run_fits_one_line(self) -> None:
        line = shown(RUNNING, "running", 140)
        assert line.split() == [
            *("Qwen3-0.6B-4bit", "lora", "r8", "×20", "●", "RUNNING", "412/1000", "41%"),
            *("ETA", "5:00", "800", "tok/s", "loss", "0.805", "best", "val", "0.905", "@400"),
        ]

    def test_the_current_activity_has_its_share(self) -> None:
        view = fold(RUNNING, [ev.ProgressMade(stage="validating", done=3, total=12)])
        assert "● RUNNING  validating 25%" in shown(view, "running", 140)

    def test_a_failure_has_its_reason(self) -> None:
        view = fold(RUNNING, [ev.RunFailed(message="No disk space.", step=412, log="x")])
        assert "✗ FAILED  No disk space." in shown(view, "failed", 140)

    def test_a_long_reason_keeps_steps_and_loss(self) -> None:
        reason = "Step 413: the loss is nan and its gradient nan on data/train.jsonl lines 1, 2."
        view = fold(RUNNING, [ev.RunFailed(message=reason, step=412, log="x")])
        line = shown(view, "failed", 120)
        assert "FAILED  Step 413: the loss" in line
        assert "412/1000" in line
        assert "loss 0.805" in line

    def test_an_ended_run_has_no_eta(self) -> None:
        assert "ETA" not in shown(fold(RUNNING, [ended(412)]), "finished", 140)

    def test_a_late_step_replaces_the_eta(self) -> None:
        line = RunLineWriter().of_run(RECIPE, RUNNING, "running", (RUNNING.last_time or 0.0) + 40)
        assert "no step for 40 s" in fit(line, 140).plain
        assert "ETA" not in fit(line, 140).plain

    def test_before_any_run_it_shows_the_model_opening(self) -> None:
        opening = ev.ProgressMade(stage="downloading", done=1, total=4)
        line = RunLineWriter().of_recipe(RECIPE, opening)
        assert "○ model: downloading 25%" in fit(line, 80).plain

    def test_a_run_being_read_is_named(self) -> None:
        line = RunLineWriter().of_recipe(RECIPE, None, "lamps-lora-1")
        assert "○ reading lamps-lora-1 …" in fit(line, 80).plain

    def test_a_missing_model_is_said_with_as_much_of_the_reason_as_fits(self) -> None:
        reason = "models/gone: this folder doesn't exist; set model to another one."
        line = RunLineWriter().of_recipe(RECIPE, reason)
        assert f"✗ {reason}" in fit(line, 140).plain
        assert "✗ models/gone: this" in fit(line, 60).plain

    @pytest.mark.parametrize(("state", "is_said"), [("finished", True), ("running", False)])
    def test_beside_a_run_that_has_ended_it_is_said_too(self, state: State, is_said: bool) -> None:
        now = RUNNING.last_time or 0.0
        line = RunLineWriter().of_run(
            RECIPE, RUNNING, state, now, "models/gone: no such folder.", recipe_key="f7"
        )
        assert ("! the recipe's model can't be opened (f7)" in fit(line, 160).plain) == is_said

    def test_a_paused_run_has_no_eta(self) -> None:
        assert "ETA" in shown(RUNNING, "running", 160)
        assert "ETA" not in shown(RUNNING, "paused", 160)

    def test_names_are_printable(self) -> None:
        assert model_name("models/\x1b[31mred") == "␛[31mred"
        assert model_name("") == "no model"

    def test_full_fine_tuning_has_no_rank(self) -> None:
        assert adapter_kind(recipes.replace(RECIPE, "fine_tune_type", "full")) == "full"


class TestFit:
    @pytest.mark.parametrize("width", range(1, 160))
    def test_it_never_exceeds_the_width(self, width: int) -> None:
        assert (
            fit(RunLineWriter().of_run(RECIPE, RUNNING, "running", 0.0), width).cell_length <= width
        )

    @pytest.mark.parametrize("width", [38, 60, 80, 120])
    def test_state_steps_and_loss_are_dropped_last(self, width: int) -> None:
        line = shown(RUNNING, "running", width)
        assert "● RUNNING" in line
        assert "412/1000" in line
        assert "loss 0.805" in line

    def test_the_eta_is_dropped_after_the_share(self) -> None:
        assert shown(RUNNING, "running", 46).split()[:4] == ["●", "RUNNING", "412/1000", "ETA"]

    def test_what_is_done_between_steps_is_shown_on_narrow_lines_in_place_of_the_word(self) -> None:
        view = fold(RUNNING, [ev.ProgressMade(stage="validating", done=3, total=12)])
        assert shown(view, "running", 40).split("  ")[:2] == ["● validating 25%", "412/1000"]

    def test_a_model_that_cannot_be_opened_is_said_in_full_rather_than_the_runs_model(self) -> None:
        line = RunLineWriter().of_run(
            RECIPE, RUNNING, "finished", 0.0, "models/gone: no such folder.", recipe_key="2"
        )
        assert "! the recipe's model can't be opened (2)" in fit(line, 78).plain

    def test_the_narrowest_shows_a_late_step(self) -> None:
        late = (RUNNING.awaited_since or 0.0) + 40
        line = fit(RunLineWriter().of_run(RECIPE, RUNNING, "running", late), 42).plain
        assert line.strip() == "● RUNNING  412/1000  no step for 40 s"


class TestAnswering:
    def test_answering_is_shown_while_it_lasts(self) -> None:
        answering = fold(RUNNING, [ev.ProgressMade(stage="answering", done=0)])
        assert "answering" in shown(answering, "running", 140)
        answered = fold(answering, [ev.ChatAnswered(step=412, tokens=12, seconds=1.5)])
        assert "answering" not in shown(answered, "running", 140)

    def test_sampling_is_not_a_late_step(self) -> None:
        sampling = fold(RUNNING, [ev.ProgressMade(stage="sampling", done=0, time=1000.0)])
        line = RunLineWriter().of_run(RECIPE, sampling, "running", 1040.0)
        assert line.activity == "sampling 40 s"
        assert not line.late
