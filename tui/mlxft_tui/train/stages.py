"""What the Train screen shows before the first step: the recipe, or the run's startup."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlxft.recipe import Recipe
from mlxft.runs.events import ProgressMade
from mlxft.runs.view import RunView, can_skip
from mlxft.text import figures
from mlxft.text.printable import printable_line
from mlxft_tui.text import event_text
from mlxft_tui.text.cells import Row, Span, cropped, heading, wrapped
from mlxft_tui.text.progress import Progress
from mlxft_tui.train.run_panel import recipe_rows
from mlxft_tui.widgets.cell_view import CellView
from mlxft_tui.widgets.gauge import bar
from mlxft_tui.widgets.remappable import shown_key

BAR = 24
"""Cells of a progress bar."""

INDENT = 3

SAMPLE_LINES = 8
"""Most lines of a sample while it is generated."""


@dataclass(frozen=True)
class NoRun:
    """No run is followed; `model` is the progress of opening the recipe's model, or its error."""

    recipe: Recipe
    model: ProgressMade | str | None
    ready: bool
    loading_run: str = ""
    """The name of a run whose journal is being read."""
    refusal: str = ""
    """Why a run can't be started now."""


class Stages(CellView):
    """Startup stages: done, running and pending."""

    def __init__(
        self,
        id: str | None = None,  # noqa: A002
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(id)
        self._clock = clock
        self._progress = Progress()
        self._shown: NoRun | RunView | None = None
        self._now = 0.0

    def show(self, shown: NoRun | RunView, now: float) -> None:
        """Show the recipe, or the run's startup; `now` is by the journal's clock."""
        self._shown, self._now = shown, now
        self.repaint()

    def rows(self, width: int, height: int) -> Sequence[Row]:
        match self._shown:
            case NoRun():
                return no_run_rows(
                    self._shown,
                    self._describe,
                    width,
                    start=shown_key(self, "train.train", "t"),
                    recipe=shown_key(self, "go.recipe", "2"),
                )
            case RunView():
                skip = shown_key(self, "train.skip", "n")
                return starting_rows(self._shown, self._describe, self._now, width, skip=skip)
            case None:
                return []

    def _describe(self, progress: ProgressMade) -> str:
        return self._progress.describe(progress, self._clock())


def no_run_rows(
    state: NoRun,
    describe: Callable[[ProgressMade], str],
    width: int,
    *,
    start: str,
    recipe: str,
) -> list[Row]:
    """The recipe with the keys that start and change it, or the name of the run being read."""
    if state.loading_run:
        return [heading(((f"reading {printable_line(state.loading_run)} …", "strong"),), (), width)]
    rows: list[Row] = [heading((("no run yet", "strong"),), (), width), ()]
    rows += [_indented(row, width) for row in recipe_rows(state.recipe, RunView())]
    rows.append(())
    if isinstance(state.model, str):
        rows += [_indented(row, width) for row in wrapped(state.model, "bad", width - INDENT)]
    elif state.model is not None:
        rows.append(_running(state.model, describe, width))
    elif state.ready:
        rows.append(_done("model ready", width))
    rows.append(())
    if state.refusal:
        rows += [_indented(row, width) for row in wrapped(state.refusal, "bad", width - INDENT)]
    elif not isinstance(state.model, str):
        starts: Row = ((start, "smooth"), (" starts training with this recipe", "plain"))
        rows.append(_indented(starts, width))
    change: Row = ((recipe, "smooth"), (" changes the recipe", "muted"))
    return [*rows, _indented(change, width)]


def starting_rows(
    view: RunView,
    describe: Callable[[ProgressMade], str],
    now: float,
    width: int,
    *,
    skip: str,
) -> list[Row]:
    """The stages before the first step; `skip` is the key that skips one."""
    rows: list[Row] = [heading((("starting", "strong"),), (), width), ()]
    ready = (view.backend, view.data, view.model)
    for event in ready:
        text = event_text.line(event) if event is not None else None
        if text is not None:
            rows.append(_done(text, width))
    rows += [_done(event_text.line(each) or "", width) for each in view.validations]
    if view.progress is not None:
        rows.append(_running(view.progress, describe, width))
        rows += _sample_rows(view.progress, width)
        if can_skip(view):
            rows.append(_indented(((skip, "smooth"), (" skips it", "muted")), width))
    elif view.started is None:
        rows.append(_indented((("starting the engine", "muted"),), width))
    for event, name in zip(ready, ("MLX", "tokenized data", "model"), strict=True):
        if event is None and not _belongs_to(view.progress, name):
            rows.append(_pending(name, width))
    if None in ready or view.progress is not None or view.ending is not None:
        return [*rows, _pending("first step", width)]
    done = (view.awaited_since or 0.0, *(event.time for event in ready if event is not None))
    since = max(done)
    taking = f"first step  {figures.duration(now - since)}"
    return [*rows, cropped(((" ▸ ", "smooth"), (taking, "plain")), width)]


def _sample_rows(progress: ProgressMade, width: int) -> list[Row]:
    """The last lines of a sample that is being generated."""
    if progress.stage != "sampling" or not progress.note:
        return []
    rows = wrapped(printable_line(progress.note), "plain", width - INDENT)
    return [_indented(row, width) for row in rows[-SAMPLE_LINES:]]


def progress_row(progress: ProgressMade, described: str) -> Row:
    """The stage in words, with a bar if the total is known."""
    share = progress.done / progress.total if progress.total else None
    runs: list[Span] = [*bar(share, BAR)] if share is not None else []
    return (*runs, (f"  {described}" if runs else described, "plain"))


_STAGE_NAMES = {
    "downloading": "model",
    "importing": "model",
    "loading": "model",
    "tokenizing": "tokenized data",
}


def _belongs_to(progress: ProgressMade | None, name: str) -> bool:
    return progress is not None and _STAGE_NAMES.get(progress.stage) == name


def _done(text: str, width: int) -> Row:
    return cropped(((" ✓ ", "good"), (text, "plain")), width)


def _pending(text: str, width: int) -> Row:
    return cropped(((" · ", "faint"), (text, "muted")), width)


def _running(progress: ProgressMade, describe: Callable[[ProgressMade], str], width: int) -> Row:
    described = describe(progress)
    has_note = progress.note and progress.stage != "sampling"
    note = f"  {printable_line(progress.note)}" if has_note else ""
    row: Row = ((" ▸ ", "smooth"), *progress_row(progress, described), (note, "muted"))
    return cropped(row, width)


def _indented(row: Row, width: int) -> Row:
    return cropped(((" " * INDENT, "plain"), *row), width)
