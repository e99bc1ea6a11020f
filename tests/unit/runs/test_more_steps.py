"""More steps for a run that has ended, and what its learning rate does then."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from mlxft.errors import MlxftError
from mlxft.recipe import Recipe, apply_settings
from mlxft.runs.followed import FollowedRun
from mlxft.runs.more_steps import more_steps
from mlxft.runs.view import State
from support.journal import finished, followed, preparation, training, view_of


def ended(
    folder: Path, *settings: str, steps: int = 40, state: State = "finished", ending: str = ""
) -> FollowedRun:
    recipe = apply_settings(Recipe(model="m", iters=40, learning_rate=1e-3), settings)
    events = [*preparation(recipe), *training(steps, recipe)]
    if ending:
        events.append(msgspec.structs.replace(finished(), reason=ending, step=steps))
    return followed(folder, view_of(events), state, recipe)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ((), "from step 40 to 80. The learning rate stays at 1e-3."),
        (
            ("lr_schedule.name=linear_schedule",),
            "linear_schedule now spans all 80 steps: the learning rate was 2.5e-5, continues at "
            "5e-4 and ends at 1.25e-5.",
        ),
        (
            ("lr_schedule.name=linear_schedule", "lr_schedule.warmup=10"),
            "The warm-up isn't repeated.",
        ),
        (
            ("lr_schedule.name=linear_schedule", "lr_schedule.warmup=60"),
            "The warm-up is finished first.",
        ),
        (
            ("lr_schedule.name=cosine_decay", "lr_schedule.arguments=1e-3,40,1e-4"),
            "cosine_decay keeps its own arguments: the learning rate was 1.014e-4, continues at "
            "1e-4 and ends at 1e-4.",
        ),
        (
            ("lr_schedule.name=linear_schedule", "grad_accumulation_steps=4"),
            "was 1e-4, continues at 5e-4 and ends at 5e-5.",
        ),
    ],
)
def test_the_schedule_is_explained(tmp_path: Path, settings: tuple[str, ...], says: str) -> None:
    run = ended(tmp_path, *settings)
    assert says in more_steps(run, run.recipe, {"iters": 80})


def test_a_schedule_that_has_ended_at_zero_is_refused(tmp_path: Path) -> None:
    run = ended(tmp_path, "lr_schedule.name=cosine_decay", "lr_schedule.arguments=1e-3,40")
    with pytest.raises(MlxftError, match=r"ended at 0, .* empty lr_schedule\.arguments"):
        more_steps(run, run.recipe, {"iters": 80})
    assert more_steps(run, run.recipe, {"iters": 80, "lr_schedule.arguments": ""})


def test_early_stopping_would_end_it_at_once(tmp_path: Path) -> None:
    run = ended(tmp_path, "early_stopping=2", steps=30, state="stopped", ending="early_stopped")
    with pytest.raises(MlxftError, match="set early_stopping to 0, or above 2"):
        more_steps(run, run.recipe, {"iters": 80})
    assert more_steps(run, run.recipe, {"iters": 80, "early_stopping": 0})


@pytest.mark.parametrize(
    ("state", "iters", "says"),
    [("finished", 40, "has trained 40 steps, so iters 40 adds none"), ("running", 80, "progress")],
)
def test_what_can_not_be_trained_further(
    tmp_path: Path, state: State, iters: int, says: str
) -> None:
    run = ended(tmp_path, state=state)
    with pytest.raises(MlxftError, match=says):
        more_steps(run, run.recipe, {"iters": iters})
