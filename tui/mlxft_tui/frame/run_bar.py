"""The run's status line, shown on every screen."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Final

from rich.cells import cell_len
from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from mlxft.recipe import Recipe
from mlxft.runs.events import ProgressMade, RunFailed
from mlxft.runs.view import RunView, State, seconds_late, seconds_left, tokens_per_second
from mlxft.text import figures
from mlxft.text.printable import printable_line
from mlxft_tui.text.progress import Progress
from mlxft_tui.text.theme import MUTED, STATE_LOOKS

WAITED_SECONDS = 15.0
"""How long the line shows how long the run waited for an answer."""

NO_MODEL = "the recipe's model can't be opened"

LIVE: Final = ("starting", "running", "paused")

SHORT_MODEL = 14
"""Cells of the model's name on a narrow line."""

SHORT_ACTIVITY = 24
"""Fewest cells of a failure's reason."""


@dataclass(frozen=True, kw_only=True)
class RunLine:
    """The parts of the line."""

    model: str = ""
    adapter: str = ""
    state: State | None = None
    activity: str = ""
    """Work other than a training step, or why the run failed."""
    steps: str = ""
    share: str = ""
    """Steps done as a percentage."""
    late: str = ""
    """A warning that no step has finished for too long."""
    left: str = ""
    speed: str = ""
    loss: str = ""
    best: str = ""
    problem: str = ""
    """Why the recipe's model can't be opened."""


class RunBar(Widget):
    """Model, adapter, state, steps and loss in one line of any width."""

    DEFAULT_CSS = """
    RunBar {
        height: 1;
        background: $surface;
        padding: 0 1;
    }
    """
    ALLOW_SELECT = False

    line: reactive[RunLine] = reactive(RunLine())

    def render(self) -> Content:
        return fit(self.line, self.size.width)


class RunLineWriter:
    """Builds the line; keeps only the speed of the current activity."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._progress = Progress()

    def of_recipe(
        self, recipe: Recipe, opening: ProgressMade | str | None, loading: str = ""
    ) -> RunLine:
        """The line before any run; `loading` names a run whose journal is being read."""
        activity = f"reading {printable_line(loading)} …" if loading else "no run yet"
        if isinstance(opening, ProgressMade) and not loading:
            activity = f"model: {self._progress.describe(opening, self._clock())}"
        problem = printable_line(opening) if isinstance(opening, str) and not loading else ""
        return RunLine(
            model=model_name(recipe.model),
            adapter=adapter_kind(recipe),
            activity=activity,
            problem=problem,
        )

    def of_run(
        self,
        recipe: Recipe,
        view: RunView,
        state: State,
        now: float,
        opening: ProgressMade | str | None = None,
        *,
        recipe_key: str = "",
    ) -> RunLine:
        """The line of a run with the recipe it was started with; `now` by the journal's clock.

        `opening` says why the model of the edited recipe can't be opened, if it can't, and
        `recipe_key` which key shows that recipe.
        """
        best = view.best_validation
        activity = self._activity(view, state, now)
        is_missing = isinstance(opening, str) and state not in LIVE
        late = seconds_late(view, now) if state == "running" else None
        left = seconds_left(view) if state == "running" and late is None else None
        speed = tokens_per_second(view) if state == "running" else None
        loss = view.loss
        return RunLine(
            model=model_name(recipe.model),
            adapter=adapter_kind(recipe),
            state=state,
            activity=printable_line(activity),
            steps=f"{view.step}/{view.iters}" if view.iters else "",
            share=f"{view.step * 100 // view.iters}%" if view.iters else "",
            late=f"no step for {figures.duration(late)}" if late is not None else "",
            left=f"ETA {figures.duration(left)}" if left else "",
            speed=f"{figures.rate(speed)} tok/s" if speed is not None and late is None else "",
            loss=f"loss {figures.loss(loss)}" if loss is not None else "",
            best=f"best val {figures.loss(best.loss)} @{best.step}" if best else "",
            problem=f"{NO_MODEL} ({recipe_key})" if is_missing else "",
        )

    def _activity(self, view: RunView, state: State, now: float) -> str:
        """The current activity, the wait for the last answer, or why the run failed."""
        answered, progress = view.answered, view.progress
        if progress is None:
            self._progress.end()
        if progress is not None and state in ("starting", "running", "paused"):
            has_no_share = progress.stage in ("answering", "sampling")
            elapsed = max(0.0, now - progress.time) if has_no_share else 0.0
            text = self._progress.describe(progress, self._clock())
            return f"{text} {elapsed:.0f} s" if elapsed >= 1 else text
        if isinstance(view.ending, RunFailed):
            return view.ending.message
        if answered is not None and state == "running" and now - answered.time < WAITED_SECONDS:
            return f"waited {answered.seconds:.1f} s for an answer"
        return ""


def model_name(model: str) -> str:
    """The last component of a model's path or id."""
    return printable_line(PurePath(model).name or "no model")


def adapter_kind(recipe: Recipe) -> str:
    """What is trained: full, or the adapter type with its rank and scale."""
    if recipe.fine_tune_type == "full":
        return "full"
    shape = recipe.lora_parameters
    return f"{recipe.fine_tune_type} r{shape.rank} ×{shape.factor:.6g}"


def fit(line: RunLine, width: int) -> Content:
    """The line in `width` cells, dropping the least important parts first."""
    for dropped in range(11):
        left, right = _parts(line, dropped)
        if line.state == "failed" and dropped < 9:
            # Shorten the reason rather than drop figures; the log has it in full.
            short = _shortened(line.activity, left, right, width)
            left, right = _parts(replace(line, activity=short), dropped)
        elif line.problem and dropped >= (7 if line.state else 4):
            short = _shortened(line.problem, left, right, width)
            left, right = _parts(replace(line, problem=short), dropped)
        gap = width - left.cell_length - right.cell_length
        if gap >= 2 or (gap >= 0 and not right.cell_length):
            return Content.assemble(left, " " * gap, right)
    return left.truncate(width, ellipsis=True)


def _shortened(reason: str, left: Content, right: Content, width: int) -> str:
    more = max(0, left.cell_length + right.cell_length + 2 - width)
    short = max(SHORT_ACTIVITY, cell_len(reason) - more)
    return Content(reason).truncate(short, ellipsis=True).plain


def _parts(line: RunLine, dropped: int) -> tuple[Content, Content]:
    model = Content(line.model)
    if dropped >= 2:
        model = model.truncate(SHORT_MODEL, ellipsis=True)
    if line.state is None and line.problem:
        state = Content.styled("✗ " + line.problem, "$error")
    elif line.state is None:
        state = Content.styled("○ " + line.activity, MUTED)
    else:
        state = _state(line.state, line.activity, dropped)
    left = [
        model.stylize("bold") if dropped < 6 else Content(),
        Content.styled(line.adapter if dropped < 4 else "", MUTED),
        state,
        Content(line.activity if line.state and dropped < 8 else ""),
        Content(f"{line.steps} {line.share}" if line.share and dropped < 5 else line.steps),
        Content.styled(line.late, "bold $warning"),
        Content(line.left if dropped < (7 if line.activity else 8) else ""),
        Content.styled(line.speed if dropped < 3 else "", MUTED),
        Content.styled(f"! {line.problem}" if line.problem and line.state else "", "$warning"),
    ]
    right = [Content(line.loss), Content.styled(line.best if dropped < 1 else "", MUTED)]
    return _spaced(left), _spaced(right if dropped < 10 else [])


def _state(state: State, activity: str, dropped: int) -> Content:
    """Symbol and word; just before the activity is dropped, that instead of the word."""
    look = STATE_LOOKS[state]
    if activity and dropped == 8:
        return Content.assemble((look.symbol, f"bold {look.style}"), f" {activity}")
    return Content.styled(f"{look.symbol} {look.word}", f"bold {look.style}")


def _spaced(parts: list[Content]) -> Content:
    return Content("  ").join([part for part in parts if part.cell_length])
