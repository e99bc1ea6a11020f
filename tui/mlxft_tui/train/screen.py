"""The train screen: a run's loss, its machine, and the keys that act on it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar, Final

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical

from mlxft.data.batch_plan import padded_width
from mlxft.engine.protocol import (
    AnyCommand,
    Continue,
    Pause,
    SaveCheckpoint,
    SetLearningRate,
    Stop,
    Validate,
)
from mlxft.errors import ModelError
from mlxft.memory.calibrated import CalibratedEstimator, load_calibration
from mlxft.memory.calibration import Calibration
from mlxft.runs.events import TrainReported
from mlxft.runs.followed import FollowedRun
from mlxft.runs.view import RunView, tokens_per_second
from mlxft_tui.frame.confirm import ConfirmDialog
from mlxft_tui.frame.messages import CommandIssued, ResumeRequested, TrainingRequested
from mlxft_tui.frame.pending import PendingCommand
from mlxft_tui.frame.screen import AppScreen
from mlxft_tui.plot.curves import EarlierRun
from mlxft_tui.plot.run_plot import EARLIER_ROLES, FIGURES, RunPlot
from mlxft_tui.plot.trend import Trend
from mlxft_tui.terminal.connection import is_remote
from mlxft_tui.text.cells import Row, separated, width_of
from mlxft_tui.text.progress import Progress
from mlxft_tui.train.live_advice import advise, after_ending, command_of
from mlxft_tui.train.log_view import LogView
from mlxft_tui.train.machine_panel import MachineLine, MachinePanel, figures_row, machine_state
from mlxft_tui.train.notice import Notice, advice_rows, asked_row, ending_rows
from mlxft_tui.train.run_panel import RunFacts, RunPanel
from mlxft_tui.train.samples_view import SamplesView
from mlxft_tui.train.stages import Stages, Waiting, progress_row

if TYPE_CHECKING:
    from mlxft.advice.types import Advice
    from mlxft.engine.protocol import ModelOpened
    from mlxft.memory.shapes import ModelShapes
    from mlxft.recipe import Recipe
    from mlxft.telemetry.sample import Sample
    from mlxft_tui.frame.pending import Refused
    from mlxft_tui.session import Session

LIVE: Final = ("starting", "running", "paused")
"""States with an engine at work."""

SAMPLES: Final = 20
"""Latest looks at the machine that are kept."""

TICK_SECONDS = 1.0
"""How often the clock is looked at, and what need not follow each step is shown anew."""

ADVICE_SECONDS = 30.0
"""How long advice stays once its reason has gone: what flickers is not read."""

REMOTE_LOG_SECONDS = 5.0
"""How long reports wait for each other over SSH: each scrolls all lines of the log."""


class TrainScreen(AppScreen, keys="train"):
    """Watch the followed run and steer it."""

    CSS_PATH = "screen.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "train", "Train", tooltip="Start a run with the present recipe"),
        Binding("p", "pause", "Pause", tooltip="Pause after this step"),
        Binding("p", "go_on", "Go on", tooltip="Go on with the steps", id="pause"),
        Binding("s", "stop", "Stop", tooltip="Finish the step, save, and end the run; asks first"),
        Binding("r", "resume", "Resume", tooltip="Start an engine on this run again"),
        Binding("c", "checkpoint", "Checkpoint", tooltip="Save adapter and resume state now"),
        Binding("v", "validate", "Validate", tooltip="Run the validation set now"),
        Binding(
            "left_square_bracket",
            "rate(0.5)",
            "lr ÷2",
            tooltip="Halve the learning rate",
            id="lower_rate",
        ),
        Binding(
            "right_square_bracket",
            "rate(1.5)",
            "lr ×1.5",
            tooltip="Raise the learning rate",
            id="raise_rate",
        ),
        Binding("a", "apply", "Apply", tooltip="Follow the advice shown"),
        Binding("space", "freeze", "Freeze", tooltip="Stop the view; the run goes on"),
        Binding(
            "m",
            "figure",
            "Figure",
            tooltip="Loss, speed, rate, gradient or memory at large",
            id="chart",
        ),
        Binding("y", "log_scale", "Log", tooltip="Logarithmic or linear"),
        Binding("x", "progression", "Over", tooltip="Over steps, tokens or time", id="x_axis"),
        Binding(
            "o",
            "compare",
            "Overlay",
            tooltip="Lay one more earlier run under the curve",
            id="overlay",
        ),
        Binding("w", "samples", "Samples", tooltip="What the model says to the sample prompt"),
        Binding("w", "log", "Log", tooltip="Back from the samples", id="samples"),
        Binding("escape", "back", "Back", show=False, tooltip="Leave samples, then crosshair"),
        Binding("f", "filter", "Filter", tooltip="Narrow the log"),
        Binding("comma", "smooth(-1)", "Rougher", key_display=",", show=False, id="smooth_less"),
        Binding(
            "full_stop", "smooth(1)", "Smoother", key_display=".", show=False, id="smooth_more"
        ),
        Binding(
            "plus,equals_sign", "zoom(1)", "Zoom in", key_display="+", show=False, id="zoom_in"
        ),
        Binding("minus", "zoom(-1)", "Zoom out", key_display="-", show=False, id="zoom_out"),
        Binding("0", "zoom(0)", "Whole run", show=False, id="whole_run"),
        Binding("left,h", "crosshair(-1)", "Crosshair left", show=False, id="crosshair_left"),
        Binding("right,l", "crosshair(1)", "Crosshair right", show=False, id="crosshair_right"),
        Binding("shift+left,H", "crosshair(-10)", "Far left", show=False, id="crosshair_far_left"),
        Binding(
            "shift+right,L", "crosshair(10)", "Far right", show=False, id="crosshair_far_right"
        ),
        Binding("up,k", "scroll_log(-1)", "Older log lines", show=False, id="log_up"),
        Binding("down,j", "scroll_log(1)", "Newer log lines", show=False, id="log_down"),
        Binding("pageup", "page_log(-1)", "Log page up", show=False, id="log_page_up"),
        Binding("pagedown", "page_log(1)", "Log page down", show=False, id="log_page_down"),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._asked: tuple[PendingCommand, ...] = ()
        self._held: FollowedRun | None = None
        """What a frozen view stands at."""
        self._progress = Progress()
        self._due = False
        self._slowly_due = True
        """Whether it is time for what need not follow each step: curves and advice."""
        self._behind = False
        """Whether there may be steps that the curves don't show yet."""
        self._advice: Advice | None = None
        self._advised = 0.0
        """When the advice's reason was last seen."""
        self._samples: list[Sample] = []
        """The latest looks at the run's machine."""
        self._calibration = Calibration()
        self._estimated: tuple[object, int | None] | None = None
        self._compared = 0
        """Earlier runs that are laid under the loss."""
        self._stop_question: ConfirmDialog | None = None
        self._remote = is_remote()
        self._log_pace = REMOTE_LOG_SECONDS if self._remote else 0.0
        self._shown_at = 0.0
        self._log_shown = 0.0

    def compose_body(self) -> ComposeResult:
        yield MachineLine("figures")
        with Horizontal(id="main"):
            with Vertical(id="curves"):
                yield RunPlot("plot")
                yield Stages("stages")
                with Horizontal(id="trends"):
                    for _ in range(len(FIGURES) - 1):
                        yield Trend()
            with Vertical(id="side"):
                yield MachinePanel("machine")
                yield RunPanel("run")
        yield Notice("notice")
        with Horizontal(id="lower"):
            yield LogView("log")
            yield SamplesView("samples")

    def on_mount(self) -> None:
        self.set_interval(TICK_SECONDS, self._tick)

    def watch_run(self, before: FollowedRun | None, now: FollowedRun | None) -> None:
        if before is None or now is None or before.directory != now.directory:
            self._asked, self._held, self._samples, self._advice = (), None, [], None
            self._log_shown, self._slowly_due = 0.0, True
            self._compare(0)
        if now is not None:
            live = now.state in LIVE
            self._asked = tuple(
                each for each in self._asked if live and not each.is_confirmed(now.view)
            )
        self._renew_stop_question()
        if _what_keys(before) != _what_keys(now):
            self._slowly_due = True
            self.refresh_bindings()
        self._show_soon()

    def _advise(self) -> None:
        """Look at the run's figures; what was asked for is waited for first."""
        run, before = self.run, self._advice
        waiting = any(isinstance(each.command, SetLearningRate) for each in self._asked)
        if run is None or run.state != "running" or waiting:
            self._advice = None
        else:
            self._remember_machine(run.view)
            found = advise(run.view, self._samples, run.recipe)
            if found or self.clock() - self._advised > ADVICE_SECONDS:
                self._advice, self._advised = found, self.clock()
        if command_of(before) != command_of(self._advice):
            self.refresh_bindings()

    def _remember_machine(self, view: RunView) -> None:
        latest = view.machine.sample if view.machine else None
        if latest is not None and (not self._samples or self._samples[-1] != latest):
            self._samples = [*self._samples, latest][-SAMPLES:]

    def watch_recipe(self) -> None:
        self._show_soon()

    def watch_coming(self) -> None:
        self._show_soon()

    def watch_model_progress(self) -> None:
        self._show_soon()

    def watch_model(self) -> None:
        self._learn()
        self._show_soon()

    @work(exclusive=True, group="calibration")
    async def _learn(self) -> None:
        """What this machine's finished runs say of the model's memory."""
        shapes = _shapes_of(self.model)
        if self.model is not None and shapes is not None:
            kind = self.model.backend.kind
            self._calibration = await asyncio.to_thread(load_calibration, shapes, kind)
            self._show_soon()

    def watch_machine(self) -> None:
        self._show_soon()

    def watch_refused(self, refused: Refused | None) -> None:
        if refused is not None:
            kept = (each for each in self._asked if each.command != refused.command)
            self._asked = tuple(kept)
            self._show_soon()

    def _show_soon(self) -> None:
        """One look for all that is published together."""
        if not self._due:
            self._due = True
            self.call_next(self._show)

    def _tick(self) -> None:
        if self.is_current and self.run is not None and self.run.state in LIVE:
            self._slowly_due = True
            if self._remote and self.clock() - self._shown_at < TICK_SECONDS:
                return  # What the clock changes is painted with the events that are coming.
            if self._behind:
                self._show_curves()
            self._write_run_line()
            self._show_notice()
            self._show_log()

    # What is shown

    @property
    def _shown(self) -> FollowedRun | None:
        """The run as it is on screen: a frozen view stands still."""
        return self._held or self.run

    def _show(self) -> None:
        """Show the run as it is, in parts, so that a key has to wait for none but one of them."""
        self._due = False
        self._shown_at = self.clock()
        self._behind = self.has_class("-curve") and not self._slowly_due
        if not self._behind:
            self._show_curves()
        self.call_later(self._show_machine)
        self.call_later(self._show_run)

    def _show_curves(self) -> None:
        """Show what need not follow each step."""
        self._behind = self._slowly_due = False
        self._show_curve()
        self._advise()
        self.call_later(self._show_trends)

    def _show_curve(self) -> None:
        """The loss, or what there is before the first step."""
        run = self._shown
        has_curve = run is not None and len(run.view.steps) > 0
        self.set_class(has_curve, "-curve")
        self.set_class(run is not None, "-run")
        stages = self.query_one("#stages", Stages)
        if run is None:
            ready = self.model is not None
            waits = Waiting(self.recipe, self.model_progress, ready, self.loading_run)
            stages.show(waits, self.clock())
        elif has_curve:
            self.query_one(RunPlot).show(run.view)
        else:
            stages.show(run.view, self.clock())

    def _show_machine(self) -> None:
        run = self._shown
        view = run.view if run else RunView()
        live = run is not None and run.state in LIVE
        machine = machine_state(view, live, self.machine, self._estimate(), self._row())
        speed = tokens_per_second(view) if live else None
        self.query_one("#figures", MachineLine).show(figures_row(view, machine, speed))
        self.query_one("#machine", MachinePanel).show(machine)

    def _show_run(self) -> None:
        """The run's recipe and results, what it says, and what is to be said of it."""
        run = self._shown
        if run is not None:
            facts = RunFacts(run.directory.name, run.recipe, run.view)
            self.query_one("#run", RunPanel).show(facts)
        prompt = run.recipe.sample_prompt if run else None
        self.query_one("#samples", SamplesView).show(run.view.samples if run else (), prompt)
        self.set_class(bool(prompt), "-prompted")
        self._show_log()
        self._show_notice()

    def _show_trends(self) -> None:
        if (run := self._shown) is None:
            return
        plot = self.query_one(RunPlot)
        window = plot.window()
        others = [figure for figure in FIGURES if figure != plot.options.figure]
        for trend, figure in zip(self.query(Trend), others, strict=True):
            trend.show(run.view.steps, figure, window)

    def _show_log(self) -> None:
        """Show the log as it is; over a thin link reports wait until several have come."""
        run, now = self._shown, self.clock()
        log = run.view.log if run else ()
        waits = bool(log) and isinstance(log[-1], TrainReported)
        if not waits or now - self._log_shown >= self._log_pace:
            self._log_shown = now
            self.query_one("#log", LogView).show(log)

    def _show_notice(self) -> None:
        run = self.run
        notice = self.query_one("#notice", Notice)
        if run is None:
            notice.show(lambda _: ((),))
        elif run.state in LIVE:
            live, advice = self._live_rows(run), self._advice
            applicable = command_of(advice) is not None
            notice.show(
                lambda width: (
                    next((row for row in live if width_of(row) <= width), live[-1]),
                    *advice_rows(advice, applicable, width),
                )
            )
        else:
            view, state, log = run.view, run.state, str(run.directory.log_file)
            last = after_ending(view, run.recipe)
            notice.show(lambda width: ending_rows(view, state, log, width, last))

    def _live_rows(self, run: FollowedRun) -> list[Row]:
        """What was asked for and what is being done, in a line; the second has less room for it."""
        now = self.clock()
        asked = asked_row(self._asked, now)
        if run.view.progress is None:
            self._progress.end()
        elif run.state in ("running", "paused"):
            described = self._progress.describe(run.view.progress, now)
            progress = progress_row(run.view.progress, described)
            words: Row = ((described, "plain"),)
            return [
                separated([*([asked] if asked else []), each], "   ") for each in (progress, words)
            ]
        return [asked]

    def _estimate(self) -> int | None:
        """The peak that the run's engine expects; before it says so, what the recipe lets expect,
        made once for each model and recipe."""
        run = self._shown
        if run and run.view.model and run.view.model.expected_peak is not None:
            return run.view.model.expected_peak
        recipe = run.recipe if run else self.recipe
        if self.session.path(recipe.model) != self.session.path(self.recipe.model):
            return None
        wanted = (self.model, recipe, self._longest, self._calibration)
        if self._estimated is None or self._estimated[0] != wanted:
            self._estimated = (wanted, estimated_peak(*wanted))
        return self._estimated[1]

    @property
    def _longest(self) -> int | None:
        """The tokens of the longest record, where the run has told or the data was measured."""
        run = self._shown
        if run is not None:
            return run.view.data.longest if run.view.data else None
        measured = self.tokens.get("train")
        return measured.longest if measured and measured.whole else None

    def _row(self) -> int | None:
        """The tokens of the longest row that the estimate counts on."""
        run, longest = self._shown, self._longest
        recipe = run.recipe if run else self.recipe
        if longest is None or recipe.packing:
            return recipe.max_seq_length
        return padded_width(longest, recipe.max_seq_length)

    # Reading the curve

    def action_freeze(self) -> None:
        """Hold the view, or follow the run again."""
        self._held = None if self._held else self.run
        self.query_one(RunPlot).freeze(self._held is not None)
        self._slowly_due = True
        self._show()

    def action_figure(self) -> None:
        """Show another figure at large."""
        self.query_one(RunPlot).next_figure()
        self._show_trends()

    def action_log_scale(self) -> None:
        """Linear or logarithmic."""
        self.query_one(RunPlot).toggle_log()

    def action_progression(self) -> None:
        """The figures over steps, tokens or time."""
        self.query_one(RunPlot).next_x_axis()
        self.call_later(self._show_trends)

    def action_smooth(self, direction: int) -> None:
        """Smooth more or less."""
        self.query_one(RunPlot).smoother(direction)

    def action_zoom(self, direction: int) -> None:
        """Show less or more of the run."""
        self.query_one(RunPlot).zoom(direction)
        self.call_later(self._show_trends)

    def action_crosshair(self, columns: int) -> None:
        """Move the crosshair."""
        self.query_one(RunPlot).move_cursor(columns)
        self.call_later(self._show_trends)

    def action_compare(self) -> None:
        """Lay one more earlier run under the loss; after the last one, none."""
        self._compare((self._compared + 1) % (len(EARLIER_ROLES) + 1))

    @work(exclusive=True, group="earlier")
    async def _compare(self, count: int) -> None:
        """Lay so many of the folder's other runs under the loss, live ones and the newest first."""
        found = await asyncio.to_thread(self.session.history.poll) if count else ()
        here = self.run.directory.path.resolve() if self.run else None
        earlier = [
            EarlierRun(each.directory.name, each.view.steps)
            for each in found or ()
            if each.directory.path.resolve() != here and len(each.view.steps)
        ]
        if count and not earlier:
            self.notify("There is no other run in this folder to lay under the curve.")
        self._compared = count if count <= len(earlier) else 0
        self.query_one(RunPlot).overlay(earlier[: self._compared])

    def action_samples(self) -> None:
        """Show the answers to the sample prompt in the log's place."""
        self._show_samples(True)

    def action_log(self) -> None:
        """Show the log again."""
        self._show_samples(False)

    def action_back(self) -> None:
        """Leave the samples, or else the crosshair."""
        if self.has_class("-samples"):
            self._show_samples(False)
        else:
            self.query_one(RunPlot).leave_cursor()
            self.call_later(self._show_trends)

    def _show_samples(self, shown: bool) -> None:
        self.set_class(shown, "-samples")
        self.refresh_bindings()

    def action_filter(self) -> None:
        """Narrow the log to one kind of events; in the samples' place, show it as it is."""
        if self.has_class("-samples"):
            self._show_samples(False)
        else:
            self.query_one(LogView).next_filter()

    def action_scroll_log(self, lines: int) -> None:
        """Scroll the log, or the samples in its place."""
        self._lower_pane().scroll_lines(lines)

    def action_page_log(self, pages: int) -> None:
        """Scroll the log, or the samples in its place, by pages."""
        self._lower_pane().scroll_pages(pages)

    def _lower_pane(self) -> LogView | SamplesView:
        samples = self.has_class("-samples")
        return self.query_one(SamplesView) if samples else self.query_one(LogView)

    # Steering the run

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if not self.is_mounted:
            return True
        state = self.run.state if self.run else None
        match action:
            case "pause":
                return state in ("starting", "running")
            case "go_on":
                return state == "paused"
            case "stop":
                return state in LIVE
            case "checkpoint" | "validate" | "rate":
                return state in ("running", "paused")
            case "train":
                return state not in LIVE
            case "apply":
                if state == "failed":
                    return bool(self._changes_to_resume_with())
                return state == "running" and command_of(self._advice) is not None
            case "freeze":
                return state in LIVE
            case "figure" | "log_scale" | "progression" | "compare":
                return self.run is not None and len(self.run.view.steps) > 0
            case "filter":
                return self.run is not None
            case "samples":
                return self.run is not None and not self.has_class("-samples")
            case "log":
                return self.has_class("-samples")
            case "resume":
                return state in ("stopped", "failed", "lost")
            case _:
                return super().check_action(action, parameters)

    def action_train(self) -> None:
        """Start a run with the present recipe."""
        self.post_message(TrainingRequested())

    def action_resume(self) -> None:
        """Start an engine on this run again."""
        if self.run is not None:
            self.post_message(ResumeRequested(self.run.directory))

    def action_pause(self) -> None:
        """Pause after this step."""
        self._ask(Pause())

    def action_go_on(self) -> None:
        """Go on after a pause."""
        self._ask(Continue())

    def action_checkpoint(self) -> None:
        """Save adapter and resume state after this step."""
        self._ask(SaveCheckpoint())

    def action_validate(self) -> None:
        """Run the validation set after this step."""
        self._ask(Validate())

    def action_rate(self, factor: float) -> None:
        """Multiply the learning rate; pressed again before it is confirmed, multiply again."""
        rate = self._present_rate()
        if rate:
            self._ask(SetLearningRate(float(f"{rate * factor:.3g}"), rate))

    def action_apply(self) -> None:
        """Follow the advice shown; a run that has failed is resumed with what it changes."""
        if self.run is not None and (changes := self._changes_to_resume_with()):
            self.post_message(ResumeRequested(self.run.directory, changes))
            return
        command = command_of(self._advice)
        if isinstance(command, Stop):
            self.action_stop()
        elif command is not None:
            self._ask(SetLearningRate(command.value, self._present_rate() or 0.0))

    def _changes_to_resume_with(self) -> dict[str, object]:
        run = self.run
        advice = after_ending(run.view, run.recipe) if run and run.state == "failed" else None
        return dict([advice.change]) if advice and advice.change else {}

    def _present_rate(self) -> float | None:
        for asked in self._asked:
            if isinstance(asked.command, SetLearningRate):
                return asked.command.value
        if self.run is None:
            return None
        return self.run.view.learning_rate or self.run.recipe.learning_rate

    def action_stop(self) -> None:
        """Ask whether to end the run, then finish its step, save, and end it."""
        if self.run is not None:
            self._stop_question = ConfirmDialog(stop_question(self.run.view), "Stop and save")
            self.app.push_screen(self._stop_question, self._stop_if)

    def _renew_stop_question(self) -> None:
        """Keep a question that is still open about the run as it is; a run at its end has none."""
        question = self._stop_question
        if question is None or self.app.screen is not question:
            return
        if self.run is not None and self.run.state in LIVE:
            question.ask(stop_question(self.run.view))
        else:
            question.dismiss(False)

    def _stop_if(self, sure: bool | None) -> None:
        self._stop_question = None
        if sure:
            self._ask(Stop())

    def _ask(self, command: AnyCommand) -> None:
        if self.run is None:
            return
        others = tuple(each for each in self._asked if type(each.command) is not type(command))
        self._asked = (*others, PendingCommand(command, self.clock(), self.run.view))
        self._advise()
        self.post_message(CommandIssued(command))
        self._show_notice()


def stop_question(view: RunView) -> str:
    """What a stop would do now."""
    place = f"step {view.step} of {view.iters}"
    if view.progress is None or view.progress.stage != "validating":
        return f"Stop at {place}, save, and end the run?"
    return f"Skip the validation, save, and end at {place}?"


def estimated_peak(
    model: ModelOpened | None, recipe: Recipe, longest: int | None, calibration: Calibration
) -> int | None:
    """Bytes that MLX is expected to report as its peak, as the Recipe screen tells it; None where
    the shapes aren't known."""
    shapes = _shapes_of(model)
    if model is None or shapes is None:
        return None
    backend = model.backend
    basis = CalibratedEstimator(shapes, backend.kind, backend.memory_limit, longest, calibration)
    return basis.estimate(recipe).peak


def _shapes_of(model: ModelOpened | None) -> ModelShapes | None:
    if model is None:
        return None
    from mlxft.memory.shapes import ModelShapes

    try:
        return ModelShapes.from_config(model.config)
    except ModelError:
        return None


def _what_keys(run: FollowedRun | None) -> tuple[object, bool]:
    """What decides which keys act."""
    return (run.state, len(run.view.steps) > 0) if run else (None, False)
