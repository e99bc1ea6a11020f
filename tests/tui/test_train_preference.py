"""The Train screen on a run that trains a preference."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlxft import recipe as recipes
from mlxft.runs import events as ev
from mlxft.runs.followed import FollowedRun
from support.journal import RUN_RECIPE, followed, preparation, training, view_of
from support.session import screen_text
from support.train_screen import app_of, plot_title


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def preference(step: int) -> ev.Preference:
    learned = 1 - math.exp(-step / 80)
    chosen, rejected = 0.4 * learned, -1.9 * learned
    return ev.Preference(
        chosen_reward=chosen,
        rejected_reward=rejected,
        margin=chosen - rejected,
        accuracy=0.5 + 0.45 * learned,
        chosen_logp=-41 + 4 * learned,
        rejected_logp=-44 - 19 * learned,
    )


def run() -> FollowedRun:
    recipe = recipes.apply_settings(RUN_RECIPE, ["loss=dpo"])
    steps = [
        msgspec.structs.replace(each, preference=preference(each.step))
        if isinstance(each, ev.StepFinished)
        else each
        for each in training(412)
    ]
    validated = ev.ValidationFinished(
        step=400, loss=0.31, tokens=900, seconds=3, best=True, preference=preference(400)
    )
    view = view_of([*preparation(), *steps, validated])
    return followed(Path("/project"), view, "running", recipe)


def state() -> dict[str, Any]:
    found = run()
    return {"run": found, "recipe": found.recipe}


async def test_m_goes_through_its_figures() -> None:
    app = app_of(state())
    async with app.run_test(size=(120, 40)) as pilot:
        titles = []
        for _ in range(4):
            await pilot.press("m")
            await pilot.pause()
            titles.append(plot_title(app).removeprefix("─ ").partition("  step")[0])
    assert titles == [
        "margin 2.28",
        "accuracy 94.7%",
        "reward 0.40  rejected −1.89",
        "log p −37.03  rejected −62.88",
    ]


async def test_the_run_shows_loss_accuracy_and_rewards() -> None:
    app = app_of(state())
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        shown = screen_text(app)
        assert "dpo, beta 0.1" in shown
        assert "94.7%, margin 2.28" in shown
        assert "step 400  validation 0.310  94.7%" in shown
