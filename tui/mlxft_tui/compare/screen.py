"""Runs side by side: their curves in one plot, recipes, scores and samples."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import ClassVar, Final, Literal

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content
from textual.widgets import Static

from mlxft.comparison.evaluations import KeptEvaluation, read_evaluations
from mlxft.comparison.labels import shown_name
from mlxft.runs.directory import RunDirectory
from mlxft.runs.followed import FollowedRun
from mlxft.runs.kept_view import compared_run
from mlxft.text.printable import printable_line
from mlxft_tui.compare import pages
from mlxft_tui.compare.legend import Legend
from mlxft_tui.frame.messages import ChatOfRunsRequested
from mlxft_tui.frame.screen import AppScreen
from mlxft_tui.plot.figure_styles import OVERLAID
from mlxft_tui.plot.overlay_plot import OverlayPlot
from mlxft_tui.plot.plot_keys import CURVE_BINDINGS, PlotKeys
from mlxft_tui.session import Session
from mlxft_tui.text.theme import MUTED
from mlxft_tui.widgets.line_list import LineList
from mlxft_tui.widgets.text_pane import TextPane

Page = Literal["curves", "recipes", "scores", "samples"]

SHOW_SECONDS: Final = 0.3
"""Time between two looks at the runs read so far."""

POLL_SECONDS: Final = 2.0
"""Time between two readings of runs that are training."""


class CompareScreen(PlotKeys, AppScreen, keys="compare"):
    """The curves of runs over each other, and their recipes, scores and samples side by side."""

    HELP = """Runs side by side; each has a number and a colour. The run under the cursor is drawn
    over the others. Recipes lists the parameters in which they differ; values that the first run
    has too are faint. Over tokens, runs with other batch sizes can be compared; over time, what
    they cost."""
    CSS_PATH = "screen.tcss"
    AUTO_FOCUS = "Legend"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "m",
            "figure",
            "Curve",
            tooltip="Loss, validation, rate, gradient, memory, speed, or what a preference has",
            id="figure",
        ),
        Binding("x", "x_axis", "Axis", tooltip="Over steps, tokens or time"),
        Binding("d", "page('recipes')", "Diff", tooltip="How the recipes differ", id="recipes"),
        Binding(
            "e", "page('scores')", "Scores", tooltip="Losses, speed, memory and time", id="scores"
        ),
        Binding(
            "w", "page('samples')", "Samples", tooltip="Answers to sample prompts", id="samples"
        ),
        Binding("c", "chat", "Chat", tooltip="Ask the first run and that under the cursor"),
        Binding("escape", "back", "Back", tooltip="Close the page, the crosshair, the comparison"),
        Binding("space", "hide", "Hide", show=False, tooltip="Leave the run out of the plot"),
        Binding("y", "log_scale", "Log", show=False, tooltip="Logarithmic or linear"),
        *CURVE_BINDINGS,
    ]

    def __init__(self, session: Session, directories: Sequence[RunDirectory]) -> None:
        super().__init__(session)
        self._directories = tuple(directories)
        self._runs: tuple[FollowedRun, ...] = ()
        self._names: dict[RunDirectory, str] = {}
        """The names that people see."""
        self._evaluations: dict[RunDirectory, tuple[KeptEvaluation, ...]] = {}
        self._page: Page = "curves"
        self._first = 0
        """The first run with a column in the table of recipes."""
        self._plot = OverlayPlot("plot")
        self._legend = Legend()
        self._text = TextPane("page")

    def compose_body(self) -> ComposeResult:
        yield Static(id="reading")
        with Container(id="curves"):
            yield self._plot
            yield self._legend
        yield self._text

    def on_mount(self) -> None:
        self.set_interval(POLL_SECONDS, self._read_live)
        self._read()

    # Reading

    @work(exclusive=True, group="compare")
    async def _read(self) -> None:
        """Read the runs, showing those that are read so far."""
        runs: list[FollowedRun] = []
        shown = time.monotonic()
        for directory in self._directories:
            runs.append(await asyncio.to_thread(compared_run, directory))
            self._names[directory] = shown_name(directory)
            self._evaluations[directory] = read_evaluations(directory)
            if time.monotonic() - shown > SHOW_SECONDS:
                self._show(tuple(runs))
                shown = time.monotonic()
        self._show(tuple(runs))

    def _read_live(self) -> None:
        if self.is_current and any(run.live for run in self._runs):
            self._read_again()

    @work(exclusive=True, group="compare-live")
    async def _read_again(self) -> None:
        """Read on in the journals of runs that are training."""
        runs = [
            await asyncio.to_thread(compared_run, run.directory) if run.live else run
            for run in self._runs
        ]
        self._show(tuple(runs))

    def _show(self, runs: tuple[FollowedRun, ...]) -> None:
        self._runs = runs
        missing = len(self._directories) - len(runs)
        reading = self.query_one("#reading", Static)
        reading.display = bool(missing)
        reading.update(
            Content.styled(f"reading {len(runs) + 1} of {len(self._directories)} …", MUTED)
        )
        self._legend.show(runs, self._shown_names(runs))
        self._plot.show([run.view for run in runs])
        self._show_page()
        self.refresh_bindings()

    @on(OverlayPlot.Drawn)
    def _show_values(self) -> None:
        options = self._plot.options
        written = OVERLAID[options.figure].format
        values = self._plot.values()
        if options.figure == "loss" and options.cursor is None:
            # The last report's, as in the table of runs; the curve is smoothed.
            values = [run.view.loss for run in self._runs]
        self._legend.show_values(values, options.hidden, written)

    @on(LineList.Moved)
    def _highlight(self, message: LineList.Moved) -> None:
        self._plot.highlight(message.index)
        self.refresh_bindings()

    # Pages

    def action_page(self, page: Page) -> None:
        """Show a page, or the curves again."""
        self._page = "curves" if page == self._page else page
        self.set_class(self._page != "curves", "-page")
        self._text.scroll_home(animate=False)
        self._show_page()
        (self._legend if self._page == "curves" else self._text).focus()
        self.refresh_bindings()

    def _shown_names(self, runs: Sequence[FollowedRun]) -> tuple[str, ...]:
        return tuple(self._names[run.directory] for run in runs)

    def _show_page(self) -> None:
        runs, first = self._runs, self._first
        names = self._shown_names(runs)
        self._text.border_title = self._page
        match self._page:
            case "recipes":
                self._text.show(lambda width: pages.recipes_text(runs, names, width, first))
            case "scores":
                found = [self._evaluations.get(run.directory, ()) for run in runs]
                self._text.show(lambda width: pages.scores_text(runs, names, found, width))
            case "samples":
                self._text.show(pages.samples_text(runs))

    def action_back(self) -> None:
        """Close the page, then the crosshair, then the comparison."""
        if self._page != "curves":
            self.action_page(self._page)
        elif not self._plot.leave_cursor():
            self.dismiss()

    # The plot

    @property
    def plot(self) -> OverlayPlot:
        return self._plot

    def action_hide(self) -> None:
        if self._legend.count:
            self._plot.toggle(self._legend.cursor)

    def action_crosshair(self, columns: int) -> None:
        """Move the crosshair; in the recipes, the columns."""
        if self._page == "recipes":
            count, _ = pages.shown_columns(len(self._runs), self._text.content_size.width - 1)
            last = max(0, len(self._runs) - count)
            self._first = min(max(0, self._first + (1 if columns > 0 else -1)), last)
            self._show_page()
        elif self._page == "curves":
            super().action_crosshair(columns)

    # Chat

    @property
    def _pair(self) -> tuple[FollowedRun, ...]:
        """The first run and the one under the cursor, or the second one; fewer if there are not."""
        at = self._legend.cursor or 1
        return (*self._runs[:1], *self._runs[at : at + 1])

    def action_chat(self) -> None:
        """Ask both runs side by side."""
        self.post_message(ChatOfRunsRequested(tuple(run.directory for run in self._pair)))

    def why_disabled(self, action: str) -> str:
        if action != "chat":
            return super().why_disabled(action)
        for run in self._pair:
            if not run.directory.adapter_file.is_file():
                return f"{printable_line(self._names[run.directory])} has saved no adapter yet."
        return "The two runs train other models, so they can't answer side by side."

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if not self.is_mounted:
            return True
        match action:
            case "chat":
                return True if self._can_chat() else None
            case "figure" | "x_axis" | "log_scale" | "smooth" | "zoom" | "hide":
                return self._page == "curves"
            case "crosshair":
                return self._page in ("curves", "recipes")
            case _:
                return super().check_action(action, parameters)

    def _can_chat(self) -> bool:
        pair = self._pair
        have_adapters = all(run.directory.adapter_file.is_file() for run in pair)
        return bool(pair) and have_adapters and len({run.recipe.model for run in pair}) == 1
