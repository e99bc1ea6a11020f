"""The Train screen on runs in each state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlxft.runs import events as ev
from mlxft.runs.followed import FollowedRun
from mlxft.runs.view import RunView, State
from mlxft_tui.plot.run_plot import RunPlot
from mlxft_tui.session import Session
from mlxft_tui.text.cells import plain_text
from mlxft_tui.train.screen import TrainScreen
from support.journal import RUN_RECIPE, finished, followed, preparation, sample, training, view_of
from support.session import ScreenApp

FOLDER = Path("/project")
SIZES = [(80, 24), (120, 40), (200, 60)]
FAILURE = ev.RunFailed(
    message="The GPU ran out of memory at step 331; halve batch_size or set grad_checkpoint.",
    step=330,
    log="/project/adapters/SmolLM2-135M-Instruct-lora-1/engine.log",
)


def run_of(view: RunView, state: State) -> FollowedRun:
    return followed(FOLDER, view, state)


def waiting() -> dict[str, Any]:
    return {"recipe": RUN_RECIPE, "machine": sample(), "model_progress": "No model is chosen."}


def starting() -> dict[str, Any]:
    tokenizing = ev.ProgressMade(stage="tokenizing", done=120, total=300)
    return {"run": run_of(view_of([*preparation()[:3], tokenizing]), "starting")}


def sampling() -> dict[str, Any]:
    """The sample prompt is answered before the first step."""
    text = "I'm happy to help. Which of the lamps in the long hall should I turn on? " * 3
    events = [
        *preparation(),
        ev.ValidationFinished(step=0, loss=2.614, tokens=2200, seconds=3.4, best=False),
        ev.ProgressMade(stage="sampling", done=0),
        ev.ProgressMade(stage="sampling", done=len(text), note=text),
    ]
    return {"run": run_of(view_of(events), "starting")}


def running(steps: int = 412, *more: ev.AnyEvent) -> dict[str, Any]:
    events = [*preparation(gpu=True), *training(steps, gpu=True), *more]
    return {"run": run_of(view_of(events), "running"), "recipe": RUN_RECIPE}


def paused() -> dict[str, Any]:
    events = [*preparation(), *training(60), ev.RunPaused(step=60)]
    return {"run": run_of(view_of(events), "paused")}


def warned() -> dict[str, Any]:
    """The last steps' loss is far above what it was."""
    spike = (
        ev.StepFinished(step=step, loss=3.0, tokens=500, seconds=0.4, learning_rate=2e-4)
        for step in range(413, 418)
    )
    return running(412, *spike)


def done() -> dict[str, Any]:
    events = [*preparation(), *training(1000), finished()]
    return {"run": run_of(view_of(events), "finished"), "machine": sample()}


def failed() -> dict[str, Any]:
    return {"run": run_of(view_of([*preparation(), *training(330), FAILURE]), "failed")}


def lost() -> dict[str, Any]:
    return {"run": run_of(view_of([*preparation(), *training(90)]), "lost")}


def app_of(state: dict[str, Any]) -> ScreenApp:
    """The screen in this state, one second after the run's last event."""
    screen = TrainScreen(Session(FOLDER))
    run = state.get("run")
    now = (run.view.last_time or 0.0) + 1 if run else 0.0
    screen.clock = lambda: now
    return ScreenApp(screen, **state)


def plot_rows(app: ScreenApp) -> list[str]:
    plot = app.screen.query_one(RunPlot)
    return [plain_text(row) for row in plot.rows(*plot.size)]


def plot_title(app: ScreenApp) -> str:
    return plot_rows(app)[0]


def tick(app: ScreenApp) -> None:
    assert isinstance(app.place, TrainScreen)
    app.place.tick()
