"""The table of runs: one line each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message

from mlxft.runs.directory import RunDirectory
from mlxft.runs.events import RunFinished
from mlxft.runs.followed import FollowedRun
from mlxft.runs.view import tokens_per_second
from mlxft.text import figures
from mlxft.text.printable import printable_line
from mlxft_tui.text.ages import AGES_SECONDS
from mlxft_tui.text.theme import STATE_LOOKS
from mlxft_tui.widgets.line_list import LineList


@dataclass(frozen=True)
class Column:
    """A column's title and width; figures are right-aligned."""

    title: str
    cells: int
    figures: bool = True
    fewest_cells: int = 0
    """The width of the table from which it is shown."""


COLUMNS = (
    Column("state", 10, figures=False),
    Column("step", 11),
    Column("loss", 6),
    Column("best val", 11),
    Column("improved", 8, fewest_cells=100),
    Column("tok/s", 6),
    Column("age", 6),
)
MOST_NAME_CELLS = 48
"""Most cells of a name, so that lines stay easy to follow on a wide terminal."""


class RunsTable(LineList, keys="runs"):
    """Runs; the cursor stays on its run when others are added or deleted."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "enter", "choose", "Follow", tooltip="Show this run on the Train screen", id="follow"
        ),
        Binding("space", "mark", "Mark", tooltip="Mark the run to compare it, or no longer"),
    ]

    class Resized(Message):
        """The columns have new widths."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._runs: tuple[FollowedRun, ...] = ()
        self._marked: tuple[RunDirectory, ...] = ()
        """In the order in which they were marked."""

    def on_mount(self) -> None:
        self.set_interval(AGES_SECONDS, self.refresh)

    @property
    def chosen(self) -> FollowedRun | None:
        """The run under the cursor."""
        return self._runs[self.cursor] if self.cursor < len(self._runs) else None

    @property
    def compared(self) -> tuple[RunDirectory, ...]:
        """The marked runs, or else the one under the cursor."""
        if self._marked or self.chosen is None:
            return self._marked
        return (self.chosen.directory,)

    def action_mark(self) -> None:
        """Mark the run, or no longer, and move to the next."""
        if run := self.chosen:
            kept = tuple(each for each in self._marked if each != run.directory)
            is_marked = len(kept) < len(self._marked)
            self._marked = kept if is_marked else (*kept, run.directory)
            self.refresh_line(self.cursor)
            self.action_move(1)

    def show(self, runs: tuple[FollowedRun, ...]) -> None:
        """Show these runs."""
        directory = self.chosen.directory if self.chosen else None
        self._runs = runs
        here = {run.directory for run in runs}
        self._marked = tuple(each for each in self._marked if each in here)
        self.count = len(runs)
        found = (at for at, run in enumerate(runs) if run.directory == directory)
        self.cursor = next(found, self.cursor)
        self.refresh()

    def on_resize(self) -> None:
        self.post_message(self.Resized())

    def columns(self) -> Content:
        """The column titles, aligned with the lines."""
        width = self.scrollable_content_region.width
        titles = [_cell(Content(column.title), column) for column in _shown(width - 2)]
        name = Content("name").pad_right(max(0, _name_cells(width - 2) - 4))
        return Content.assemble("  ", Content("  ").join([name, *titles]))

    def line(self, index: int, width: int) -> Content:
        run = self._runs[index]
        cells = _name_cells(width)
        mark = "● " if run.directory in self._marked else ""
        name = Content(f"{mark}{printable_line(run.directory.name)}")
        whole = [name.truncate(cells, ellipsis=True, pad=True).stylize("bold")]
        if name.cell_length > cells:
            whole = [name.truncate(cells, ellipsis=True).stylize("bold")]
        contents = dict(zip(COLUMNS, _cells(run, self._clock()), strict=True))
        whole += [_cell(contents[column], column) for column in _shown(width)]
        return Content("  ").join(whole)


def _shown(width: int) -> list[Column]:
    """The columns besides the name that fit this width."""
    return [column for column in COLUMNS if width >= column.fewest_cells]


def _name_cells(width: int) -> int:
    """What the other columns leave to the name, and one cell at the end."""
    fixed = sum(column.cells + 2 for column in _shown(width)) + 1
    return max(8, min(width - fixed, MOST_NAME_CELLS))


def _cells(run: FollowedRun, now: float) -> tuple[Content, ...]:
    view, look = run.view, STATE_LOOKS[run.state]
    ending = view.ending if isinstance(view.ending, RunFinished) else None
    best = view.best_validation
    speed = ending.tokens_per_second if ending else tokens_per_second(view)
    return (
        Content.styled(f"{look.symbol} {look.word.lower()}", look.style),
        Content(f"{view.step}/{view.iters}" if view.iters else figures.NONE),
        Content(figures.loss(view.loss)),
        Content(f"{best.loss:.3f} @{best.step}" if best else figures.NONE),
        Content(_improvement(run)),
        Content(figures.rate(speed)),
        Content(figures.age(now - view.last_time) if view.last_time else figures.NONE),
    )


def _improvement(run: FollowedRun) -> str:
    """How much lower the best validation loss is than before training."""
    before, best = run.view.baseline, run.view.best_validation
    if before is None or best is None or not before.loss:
        return figures.NONE
    return f"{1 - best.loss / before.loss:.1%}"


def _cell(content: Content, column: Column) -> Content:
    missing = column.cells - content.cell_length
    if missing < 0:
        return content.truncate(column.cells, ellipsis=True)
    return content.pad_left(missing) if column.figures else content.pad_right(missing)
