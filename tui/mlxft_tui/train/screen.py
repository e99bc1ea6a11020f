"""The Train screen: a run's curves, figures, machine and log."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical

from mlxft import recipe as recipes
from mlxft.engine.machine import refuse_if_training
from mlxft.errors import MlxftError
from mlxft.runs.followed import FollowedRun
from mlxft.runs.view import RunView, can_skip, tokens_per_second
from mlxft_tui.plot.curves import EarlierRun
from mlxft_tui.plot.plot_keys import CURVE_BINDINGS, PlotKeys
from mlxft_tui.plot.run_plot import EARLIER_ROLES, RunPlot, figures_of
from mlxft_tui.plot.trend import Trend
from mlxft_tui.terminal.connection import is_remote
from mlxft_tui.train.expected_peak import PeakEstimator, longest_row
from mlxft_tui.train.log_view import LogView
from mlxft_tui.train.machine_panel import MachineLine, MachinePanel, figures_row, machine_state
from mlxft_tui.train.notice import Notice
from mlxft_tui.train.refresh import TICK_SECONDS, RefreshSchedule
from mlxft_tui.train.run_panel import RunFacts, RunPanel
from mlxft_tui.train.samples_view import SamplesView
from mlxft_tui.train.stages import NoRun, Stages
from mlxft_tui.train.steering import STEERING_BINDINGS, SteeringScreen
from mlxft_tui.widgets.apart import call_apart
from mlxft_tui.widgets.notices import inform

if TYPE_CHECKING:
    from mlxft.recipe import Recipe
    from mlxft_tui.frame.pending import Refused
    from mlxft_tui.session import Session


TRENDS = 4
"""Small curves beside the large plot."""


class TrainScreen(PlotKeys, SteeringScreen, keys="train"):
    """Watch the followed run and steer it."""

    HELP = """Each step trains on one batch and updates the adapter. Loss is how badly the model
    predicts the trained tokens: lower is better. Validation is the loss on held-out records; if it
    rises while the loss falls, the model overfits. lr is the learning rate, the size of an update;
    gradient is the norm that it scales, and ema the smoothing of a curve. A checkpoint saves the
    adapter and the optimizer, so that a run can be resumed exactly there. Runs continue without
    the app."""
    CSS_PATH = "screen.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        *STEERING_BINDINGS,
        Binding("space", "freeze", "Freeze", tooltip="Freeze the view; the run continues"),
        Binding(
            "m",
            "figure",
            "Figure",
            tooltip="Loss, speed, rate, gradient, memory, or what a preference has",
            id="chart",
        ),
        Binding("y", "log_scale", "Log", tooltip="Logarithmic or linear"),
        Binding("x", "x_axis", "Axis", tooltip="Over steps, tokens or time"),
        Binding("o", "overlay", "Overlay", tooltip="Overlay one more earlier run"),
        Binding("w", "samples", "Samples", tooltip="Answers to the sample prompt"),
        Binding("w", "log", "Log", tooltip="Back to the log", id="samples"),
        Binding("escape", "back", "Back", show=False, tooltip="Close samples, then crosshair"),
        Binding("f", "filter", "Filter", tooltip="Filter the log"),
        *CURVE_BINDINGS,
        Binding("up,k", "scroll_log(-1)", "Older log lines", show=False, id="log_up"),
        Binding("down,j", "scroll_log(1)", "Newer log lines", show=False, id="log_down"),
        Binding("pageup", "page_log(-1)", "Log page up", show=False, id="log_page_up"),
        Binding("pagedown", "page_log(1)", "Log page down", show=False, id="log_page_down"),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._frozen: FollowedRun | None = None
        """The run as a frozen view shows it."""
        self._redraws = RefreshSchedule(remote=is_remote())
        self._estimator = PeakEstimator()
        self._overlaid = 0
        """How many earlier runs are overlaid."""

    def compose_body(self) -> ComposeResult:
        yield MachineLine("figures")
        with Horizontal(id="main"):
            with Vertical(id="curves"):
                yield RunPlot("plot")
                yield Stages("stages")
                with Horizontal(id="trends"):
                    for _ in range(TRENDS):
                        yield Trend()
            with Vertical(id="side"):
                yield MachinePanel("machine")
                yield RunPanel("run")
        yield Notice("notice")
        with Horizontal(id="lower"):
            yield LogView("log")
            yield SamplesView("samples")

    def on_mount(self) -> None:
        self.set_interval(TICK_SECONDS, self.tick)

    def on_screen_resume(self) -> None:
        self._calibrate()

    # When it is redrawn

    def watch_run(self, before: FollowedRun | None, now: FollowedRun | None) -> None:
        if before is None or now is None or before.directory != now.directory:
            self._frozen = None
            self.follow_other_run()
            self._redraws.request_all()
            self._overlay(0)
        self.steer(now)
        if _keys_state(before) != _keys_state(now):
            self._redraws.request_curves()
            self.refresh_bindings()
        if before and before.live and now and not now.live:
            self._calibrate()
        self._show_soon()

    def watch_recipe(self) -> None:
        self._show_soon()

    def watch_loading_run(self) -> None:
        self._show_soon()

    def watch_model_progress(self) -> None:
        self._show_soon()

    def watch_model(self) -> None:
        self._calibrate()
        self._show_soon()

    @work(exclusive=True, group="calibration")
    async def _calibrate(self) -> None:
        if await self._estimator.calibrate(self.model, self.session.history):
            self._show_soon()

    def watch_machine(self) -> None:
        self._show_soon()

    def watch_refused(self, refused: Refused | None) -> None:
        if refused is not None:
            self.drop_refused(refused)
            self._show_soon()

    def _show_soon(self) -> None:
        """One redraw for everything that is published together."""
        if self._redraws.request():
            self.call_next(self._show)

    def tick(self) -> None:
        """Redraw what changes with the clock."""
        if not self.is_current or self.run is None or not self.run.live:
            return
        if self._redraws.tick(self.clock()):
            if self._redraws.curves_behind:
                self._show_curves()
            self._write_run_line()
            self.show_notice()
            self._show_log()

    # What is shown

    @property
    def _shown(self) -> FollowedRun | None:
        """The run as it is on screen."""
        return self._frozen or self.run

    def _show(self) -> None:
        """Redraw in parts, so that a key waits for one of them at most."""
        if not self.app.is_running:
            # A screen that was opened while the application closed has no panes.
            return
        if self._redraws.start(self.clock(), has_curves=self.has_class("-curve")):
            self._show_curves()
        call_apart(self, self._show_machine, self._show_run)

    def _show_curves(self) -> None:
        """Show what need not follow each step: curves and advice."""
        self._redraws.curves_drawn()
        self._show_curve()
        call_apart(self, self.update_advice, self._show_trends)

    def _show_curve(self) -> None:
        """The large plot, or what precedes the first step."""
        run = self._shown
        has_curve = run is not None and len(run.view.steps) > 0
        self.set_class(has_curve, "-curve")
        self.set_class(run is not None, "-run")
        stages = self.query_one("#stages", Stages)
        if run is None:
            ready = self.model is not None
            nothing = NoRun(
                self.recipe, self.model_progress, ready, self.loading_run, self._refusal()
            )
            stages.show(nothing, self.clock())
        elif has_curve:
            self.plot.show(run.view)
        else:
            stages.show(run.view, self.clock())

    def _refusal(self) -> str:
        """Why a run can't be started now, as far as it is known before trying."""
        records = self.data.train_records if self.data else None
        try:
            refuse_if_training(self.session.adapters)
        except MlxftError as error:
            return str(error)
        if records is None:
            return ""
        return recipes.too_few_records(records, self.recipe.batch_size).capitalize()

    def _show_machine(self) -> None:
        run = self._shown
        view = run.view if run else RunView()
        live = run is not None and run.live
        recipe = run.recipe if run else self.recipe
        kind = self.model.backend.kind if self.model else "cpu"
        row = longest_row(recipe, self._longest_record(recipe), kind)
        machine = machine_state(
            view, self.machine, live=live, estimate=self._expected_peak(), row=row
        )
        speed = tokens_per_second(view) if live else None
        self.query_one("#figures", MachineLine).show(figures_row(view, machine, speed))
        self.query_one("#machine", MachinePanel).show(machine)

    def _expected_peak(self) -> int | None:
        """The Recipe screen's estimate, or of another model that of the run's engine."""
        run = self._shown
        recipe = run.recipe if run else self.recipe
        if self.session.path(recipe.model) == self.session.path(self.recipe.model):
            longest = self._longest_record(recipe)
            if (own := self._estimator.peak(self.model, recipe, longest)) is not None:
                return own
        return run.view.model.expected_peak if run and run.view.model else None

    def _longest_record(self, recipe: Recipe) -> int | None:
        records = self.data.train_records if self.data else None
        return self._estimator.longest_record(self._shown, recipe, self.tokens, records)

    def _show_run(self) -> None:
        """The run's recipe and results, its log, and the notice."""
        run = self._shown
        if run is not None:
            facts = RunFacts(run.directory.name, run.recipe, run.view)
            self.query_one("#run", RunPanel).show(facts)
        prompt = run.recipe.sample_prompt if run else None
        self.query_one("#samples", SamplesView).show(run.view if run else RunView(), prompt)
        self.set_class(bool(prompt), "-prompted")
        self._show_log()
        self.show_notice()

    def _show_trends(self) -> None:
        if (run := self._shown) is None:
            return
        window = self.plot.window()
        found = figures_of(run.view.steps)
        others = [figure for figure in found if figure != self.plot.options.figure]
        # With a preference there are more figures than room; its own come first.
        trends = zip(self.query(Trend), others, strict=False)
        call_apart(self, *(partial(each.show, run.view, figure, window) for each, figure in trends))

    def _show_log(self) -> None:
        log = self._shown.view.log if self._shown else ()
        if self._redraws.log_due(log, self.clock()):
            self.query_one("#log", LogView).show(log)

    # Keys that act on the view

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if not self.is_mounted:
            return True
        match action:
            case "freeze":
                return self.run is not None and self.run.live
            case "figure" | "log_scale" | "x_axis" | "overlay":
                return self.run is not None and len(self.run.view.steps) > 0
            case "filter":
                return self.run is not None
            case "samples":
                return self.run is not None and not self.has_class("-samples")
            case "log":
                return self.has_class("-samples")
            case _:
                return super().check_action(action, parameters)

    def action_freeze(self) -> None:
        """Freeze the view, or follow the run again."""
        self._frozen = None if self._frozen else self.run
        self.plot.freeze(self._frozen is not None)
        self._redraws.request_curves()
        self._show()

    @property
    def plot(self) -> RunPlot:
        return self.query_one(RunPlot)

    def plot_changed(self) -> None:
        self.call_later(self._show_trends)

    def action_overlay(self) -> None:
        """Overlay one more earlier run; after the last one, none."""
        self._overlay((self._overlaid + 1) % (len(EARLIER_ROLES) + 1))

    @work(exclusive=True, group="earlier")
    async def _overlay(self, count: int) -> None:
        """Overlay so many of the project's other runs, live ones and the newest first."""
        found = await asyncio.to_thread(self.session.history.poll) if count else ()
        here = self.run.directory.path.resolve() if self.run else None
        earlier = [
            EarlierRun(each.directory.name, each.view.steps)
            for each in found or ()
            if each.directory.path.resolve() != here and len(each.view.steps)
        ]
        if count and not earlier:
            inform(self, "There is no other run in this project to overlay.")
        self._overlaid = count if count <= len(earlier) else 0
        self.plot.overlay(earlier[: self._overlaid])

    def action_samples(self) -> None:
        """Show the answers to the sample prompt in place of the log."""
        self._show_samples(True)

    def action_log(self) -> None:
        """Show the log again."""
        self._show_samples(False)

    def action_back(self) -> None:
        """Close the samples, or else the crosshair."""
        if self.has_class("-samples"):
            self._show_samples(False)
        else:
            self.plot.leave_cursor()
            self.plot_changed()

    def _show_samples(self, shown: bool) -> None:
        self.set_class(shown, "-samples")
        self.refresh_bindings()

    def action_filter(self) -> None:
        """Filter the log by another kind of events; from the samples, return to the log."""
        if self.has_class("-samples"):
            self._show_samples(False)
        else:
            self.query_one(LogView).next_filter()

    def action_scroll_log(self, lines: int) -> None:
        """Scroll the log or the samples."""
        self._lower_pane().scroll_lines(lines)

    def action_page_log(self, pages: int) -> None:
        """Scroll the log or the samples by pages."""
        self._lower_pane().scroll_pages(pages)

    def _lower_pane(self) -> LogView | SamplesView:
        samples = self.has_class("-samples")
        return self.query_one(SamplesView) if samples else self.query_one(LogView)


def _keys_state(run: FollowedRun | None) -> tuple[object, ...]:
    """What decides which keys act."""
    return (run.state, run.is_kept, len(run.view.steps) > 0, can_skip(run.view)) if run else ()
