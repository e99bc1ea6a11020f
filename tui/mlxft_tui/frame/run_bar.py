"""The line that says everywhere what is being trained and how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import PurePath

from rich.cells import cell_len
from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from mlxft.recipe import Recipe
from mlxft.runs.events import ProgressMade, RunFailed
from mlxft.runs.smoothing import latest_loss
from mlxft.runs.view import RunView, State, seconds_late, seconds_left, tokens_per_second
from mlxft.text import figures
from mlxft.text.printable import printable_line
from mlxft_tui.text.progress import Progress
from mlxft_tui.text.theme import MUTED, STATE_LOOKS

TOLD_SECONDS = 15.0
"""How long the line tells what an answer has cost the run."""

SHORT_MODEL = 14
"""Cells a model's name keeps when the line is tight."""

SHORT_DOING = 24
"""Cells that the reason of a failure keeps."""


@dataclass(frozen=True)
class RunLine:
    """What the line shows: what is trained, what it does, and in which figures."""

    model: str
    adapter: str
    state: State | None
    doing: str = ""
    """The work at hand where it isn't a training step, or what to do."""
    steps: str = ""
    share: str = ""
    """How much of the run these steps are."""
    late: str = ""
    """That no step has come for too long."""
    left: str = ""
    speed: str = ""
    loss: str = ""
    best: str = ""


class RunBar(Widget):
    """Model, adapter, state, steps and loss in one line that fits any width."""

    DEFAULT_CSS = """
    RunBar {
        height: 1;
        background: $surface;
        padding: 0 1;
    }
    """
    ALLOW_SELECT = False

    line: reactive[RunLine] = reactive(RunLine("", "", None))

    def render(self) -> Content:
        return fitted(self.line, self.size.width)


class RunLineWriter:
    """Makes the line from what is known; remembers only how fast the work at hand goes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._progress = Progress()

    def of_recipe(
        self, recipe: Recipe, opening: ProgressMade | str | None, coming: str = ""
    ) -> RunLine:
        """The line before any run; `coming` is the name of one that is still being read."""
        doing = f"reading {printable_line(coming)} …" if coming else "no run yet"
        if isinstance(opening, ProgressMade) and not coming:
            doing = f"model: {self._progress.describe(opening, self._clock())}"
        return RunLine(model_name(recipe.model), adapter_kind(recipe), None, doing)

    def of_run(self, recipe: Recipe, view: RunView, state: State, now: float) -> RunLine:
        """The line of a run with the recipe it was started with; `now` as the journal's clock."""
        best = view.best_validation
        doing = self._doing(view, state, now)
        going = state in ("running", "paused")
        late = seconds_late(view, now) if state == "running" else None
        left = seconds_left(view) if going and late is None else None
        speed = tokens_per_second(view) if state == "running" else None
        loss = latest_loss(view.steps)
        return RunLine(
            model_name(recipe.model),
            adapter_kind(recipe),
            state,
            printable_line(doing),
            f"{view.step}/{view.iters}" if view.iters else "",
            f"{view.step * 100 // view.iters}%" if view.iters else "",
            f"no step for {figures.duration(late)}" if late is not None else "",
            f"ETA {figures.duration(left)}" if left else "",
            f"{figures.rate(speed)} tok/s" if speed is not None and late is None else "",
            f"loss {figures.loss(loss)}" if loss is not None else "",
            f"best val {figures.loss(best.loss)} @{best.step}" if best else "",
        )

    def _doing(self, view: RunView, state: State, now: float) -> str:
        """The work at hand, what an answer has just cost, or why the run has failed."""
        answered, progress = view.answered, view.progress
        if progress is None:
            self._progress.end()
        if progress is not None and state in ("starting", "running", "paused"):
            stands = progress.stage in ("answering", "sampling")
            waits = max(0.0, now - progress.time) if stands else 0.0
            words = self._progress.describe(progress, self._clock())
            return f"{words} {waits:.0f} s" if waits >= 1 else words
        if isinstance(view.ending, RunFailed):
            return view.ending.message
        if answered is not None and state == "running" and now - answered.time < TOLD_SECONDS:
            return f"waited {answered.seconds:.1f} s for an answer"
        return ""


def model_name(model: str) -> str:
    """The last part of a model's path or id."""
    return printable_line(PurePath(model).name or "no model")


def adapter_kind(recipe: Recipe) -> str:
    """What is trained, in a word: full, or the adapter with its rank and scale."""
    if recipe.fine_tune_type == "full":
        return "full"
    shape = recipe.lora_parameters
    return f"{recipe.fine_tune_type} r{shape.rank} ×{shape.scale:g}"


def fitted(line: RunLine, width: int) -> Content:
    """The line in so many cells: what matters least goes first."""
    for without in range(9):
        left, right = _parts(line, without)
        if line.state == "failed" and without < 7:
            # Any part of the reason is better than a bar without figures; the log has it in full.
            more = max(0, left.cell_length + right.cell_length + 2 - width)
            short = max(SHORT_DOING, cell_len(line.doing) - more)
            doing = Content(line.doing).truncate(short, ellipsis=True).plain
            left, right = _parts(replace(line, doing=doing), without)
        gap = width - left.cell_length - right.cell_length
        if gap >= 2 or (gap >= 0 and not right.cell_length):
            return Content.assemble(left, " " * gap, right)
    return left.truncate(width, ellipsis=True)


def _parts(line: RunLine, without: int) -> tuple[Content, Content]:
    model = Content(line.model)
    if without >= 2:
        model = model.truncate(SHORT_MODEL, ellipsis=True)
    if line.state is None:
        state = Content.styled("○ " + line.doing, MUTED)
    else:
        look = STATE_LOOKS[line.state]
        state = Content.styled(f"{look.symbol} {look.word}", f"bold {look.style}")
    left = [
        model.stylize("bold") if without < 6 else Content(),
        Content.styled(line.adapter if without < 4 else "", MUTED),
        state,
        Content(line.doing if line.state and without < 7 else ""),
        Content(f"{line.steps} {line.share}" if line.share and without < 5 else line.steps),
        Content.styled(line.late, "bold $warning"),
        Content(line.left if without < 7 else ""),
        Content.styled(line.speed if without < 3 else "", MUTED),
    ]
    right = [Content(line.loss), Content.styled(line.best if without < 1 else "", MUTED)]
    return _spaced(left), _spaced(right if without < 8 else [])


def _spaced(parts: list[Content]) -> Content:
    return Content("  ").join([part for part in parts if part.cell_length])
