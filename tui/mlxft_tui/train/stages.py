"""What happens before there is a curve: the recipe that waits, or the work up to the first step."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlxft.recipe import Recipe
from mlxft.runs.events import ProgressMade
from mlxft.runs.view import RunView
from mlxft.text import figures
from mlxft.text.printable import printable_line
from mlxft_tui.text import event_text
from mlxft_tui.text.cells import Row, Span, cropped, heading, wrapped
from mlxft_tui.text.progress import Progress
from mlxft_tui.train.run_panel import recipe_rows
from mlxft_tui.widgets.cell_view import CellView
from mlxft_tui.widgets.gauge import bar

BAR = 24
"""Cells of a progress bar."""

INDENT = 3


@dataclass(frozen=True)
class Waiting:
    """No run is followed; `model` is how far the opening of the recipe's model is, or why not."""

    recipe: Recipe
    model: ProgressMade | str | None
    ready: bool
    coming: str = ""
    """The name of a run whose journal is still being read."""


class Stages(CellView):
    """Done, under way, and still to come."""

    def __init__(
        self,
        id: str | None = None,  # noqa: A002
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(id)
        self._clock = clock
        self._progress = Progress()
        self._shown: Waiting | RunView | None = None
        self._now = 0.0

    def show(self, shown: Waiting | RunView, now: float) -> None:
        """Show what waits, or how far the run's start is; `now` is of the journal's clock."""
        self._shown, self._now = shown, now
        self.repaint()

    def rows(self, width: int, height: int) -> Sequence[Row]:
        describe = self._describe
        if isinstance(self._shown, Waiting):
            rows = waiting_rows(self._shown, describe, width)
        elif self._shown is not None:
            rows = starting_rows(self._shown, describe, self._now, width)
        else:
            rows = []
        return rows

    def _describe(self, progress: ProgressMade) -> str:
        return self._progress.describe(progress, self._clock())


def waiting_rows(
    waiting: Waiting, describe: Callable[[ProgressMade], str], width: int
) -> list[Row]:
    """That there is no run yet, with what it would be and the key that starts it; or that one is
    being read."""
    if waiting.coming:
        return [heading(((f"reading {printable_line(waiting.coming)} …", "strong"),), (), width)]
    rows: list[Row] = [heading((("no run yet", "strong"),), (), width), ()]
    rows += [_indented(row, width) for row in recipe_rows(waiting.recipe, RunView())]
    rows.append(())
    if isinstance(waiting.model, str):
        rows += [_indented(row, width) for row in wrapped(waiting.model, "bad", width - INDENT)]
    elif waiting.model is not None:
        rows.append(_under_way(waiting.model, describe, width))
    elif waiting.ready:
        rows.append(_done("the model is here", width))
    rows.append(())
    keys: Row = (("t", "smooth"), (" starts training with this recipe", "plain"))
    change: Row = (("2", "smooth"), (" changes the recipe", "muted"))
    return [*rows, _indented(keys, width), _indented(change, width)]


def starting_rows(
    view: RunView, describe: Callable[[ProgressMade], str], now: float, width: int
) -> list[Row]:
    """What is done of the way to the first step, and what is being done."""
    rows: list[Row] = [heading((("on the way to the first step", "strong"),), (), width), ()]
    ready = (view.backend, view.data, view.model)
    for event in ready:
        text = event_text.line(event) if event is not None else None
        if text is not None:
            rows.append(_done(text, width))
    if view.progress is not None:
        rows.append(_under_way(view.progress, describe, width))
    elif view.started is None:
        rows.append(_indented((("the engine starts", "muted"),), width))
    for event, name in zip(ready, ("MLX", "data as tokens", "model"), strict=True):
        if event is None and not _is_about(view.progress, name):
            rows.append(_to_come(name, width))
    if None in ready or view.progress is not None or view.ending is not None:
        return [*rows, _to_come("first step", width)]
    since = max(event.time for event in ready if event is not None)
    taking = f"first step  {figures.duration(now - since)}"
    return [*rows, cropped(((" ▸ ", "smooth"), (taking, "plain")), width)]


def progress_row(progress: ProgressMade, described: str) -> Row:
    """A bar where there is a total, and the stage in words."""
    share = progress.done / progress.total if progress.total else None
    runs: list[Span] = [*bar(share, BAR)] if share is not None else []
    return (*runs, (f"  {described}" if runs else described, "plain"))


_ABOUT = {
    "downloading": "model",
    "importing": "model",
    "loading": "model",
    "tokenizing": "data as tokens",
}


def _is_about(progress: ProgressMade | None, name: str) -> bool:
    return progress is not None and _ABOUT.get(progress.stage) == name


def _done(text: str, width: int) -> Row:
    return cropped(((" ✓ ", "good"), (text, "plain")), width)


def _to_come(text: str, width: int) -> Row:
    return cropped(((" · ", "faint"), (text, "muted")), width)


def _under_way(progress: ProgressMade, describe: Callable[[ProgressMade], str], width: int) -> Row:
    described = describe(progress)
    note = f"  {printable_line(progress.note)}" if progress.note else ""
    row: Row = ((" ▸ ", "smooth"), *progress_row(progress, described), (note, "muted"))
    return cropped(row, width)


def _indented(row: Row, width: int) -> Row:
    return cropped(((" " * INDENT, "plain"), *row), width)
