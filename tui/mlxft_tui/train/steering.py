"""The keys that act on the followed run, what they have requested, and what is advised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from textual.binding import Binding, BindingType

from mlxft.advice.of_view import advise
from mlxft.engine.protocol import (
    AnyCommand,
    Continue,
    Pause,
    SaveCheckpoint,
    SetLearningRate,
    Skip,
    Stop,
    Validate,
)
from mlxft.runs.view import can_skip
from mlxft_tui.frame.confirm import ConfirmDialog
from mlxft_tui.frame.messages import (
    CommandIssued,
    ExportRequested,
    ResumeRequested,
    TrainingRequested,
)
from mlxft_tui.frame.pending import PendingCommand
from mlxft_tui.frame.screen import AppScreen
from mlxft_tui.text.cells import Row, separated, width_of
from mlxft_tui.text.progress import Progress, sample_so_far
from mlxft_tui.train.live_advice import after_ending, command_of
from mlxft_tui.train.notice import Notice, advice_rows, ending_rows, requested_row
from mlxft_tui.train.stages import progress_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlxft.advice.types import Advice
    from mlxft.runs.events import ProgressMade
    from mlxft.runs.followed import FollowedRun
    from mlxft.runs.view import RunView
    from mlxft.telemetry.sample import Sample
    from mlxft_tui.frame.pending import Refused
    from mlxft_tui.session import Session

MACHINE_SAMPLES: Final = 20
"""Latest samples of the machine that advice is based on."""

ADVICE_SECONDS = 30.0
"""How long advice stays after its reason has gone, so that there is time to read it."""

STEERING_BINDINGS: Final[list[BindingType]] = [
    Binding("t", "train", "Train", tooltip="Start a run with the current recipe"),
    Binding("p", "pause", "Pause", tooltip="Pause after this step"),
    Binding("p", "continue", "Continue", tooltip="Continue after a pause", id="pause"),
    Binding("s", "stop", "Stop", tooltip="Finish the step, save, and end the run; asks first"),
    Binding("r", "resume", "Resume", tooltip="Continue this run from its last checkpoint"),
    Binding("e", "export", "Export", tooltip="Write model or adapter for use elsewhere"),
    Binding("c", "checkpoint", "Checkpoint", tooltip="Save adapter and resume state now"),
    Binding("v", "validate", "Validate", tooltip="Compute the validation loss now"),
    Binding("n", "skip", "Skip", tooltip="Skip the sample or the validation before training"),
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
]


class SteeringScreen(AppScreen):
    """A screen with a `Notice` whose keys start, steer, end and resume runs."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._pending: tuple[PendingCommand, ...] = ()
        self._progress = Progress()
        self._advice: Advice | None = None
        self._advised = 0.0
        """When the advice's reason was last seen."""
        self._machine_samples: list[Sample] = []
        self._stop_dialog: ConfirmDialog | None = None

    def follow_other_run(self) -> None:
        """Forget what was requested of the run before and advised for it."""
        self._pending, self._machine_samples, self._advice = (), [], None

    def steer(self, run: FollowedRun | None) -> None:
        """Drop what the run has confirmed, and keep an open question up to date."""
        if run is not None:
            self._pending = tuple(
                each for each in self._pending if run.live and not each.is_confirmed(run.view)
            )
        self._update_stop_dialog()

    def drop_refused(self, refused: Refused) -> None:
        """Stop waiting for a command that no engine accepted."""
        self._pending = tuple(each for each in self._pending if each.command != refused.command)

    # Advice

    def update_advice(self) -> None:
        """Judge the run by its figures, unless a requested learning rate is still pending."""
        run, before = self.run, self._advice
        waiting = any(isinstance(each.command, SetLearningRate) for each in self._pending)
        if run is None or run.state != "running" or waiting:
            self._advice = None
        else:
            self._remember_machine(run.view)
            found = advise(run.view, self._machine_samples, run.recipe)
            if found or self.clock() - self._advised > ADVICE_SECONDS:
                self._advice, self._advised = found, self.clock()
        if command_of(before) != command_of(self._advice):
            self.refresh_bindings()

    def _remember_machine(self, view: RunView) -> None:
        latest = view.machine.sample if view.machine else None
        if latest is not None and self._machine_samples[-1:] != [latest]:
            self._machine_samples = [*self._machine_samples, latest][-MACHINE_SAMPLES:]

    def show_notice(self) -> None:
        """Show pending commands, progress and advice, or how the run has ended."""
        run = self.run
        notice = self.query_one("#notice", Notice)
        if run is None:
            notice.show(lambda _: ((),))
        elif run.live:
            live, advice = self._live_rows(run), self._advice
            applicable = command_of(advice) is not None
            # Before the first step the stages show it.
            progress = None if run.state == "starting" else run.view.progress
            notice.show(
                lambda width: (
                    live_row(live, progress, width),
                    *advice_rows(advice, applicable, width),
                )
            )
        else:
            last = after_ending(run)
            notice.show(lambda width: ending_rows(run, width=width, advice=last))

    def _live_rows(self, run: FollowedRun) -> list[Row]:
        """Pending commands and progress in one line; the second variant has no bar."""
        now = self.clock()
        requested = requested_row(self._pending, now)
        if run.view.progress is None:
            self._progress.end()
        elif run.state in ("running", "paused"):
            described = self._progress.describe(run.view.progress, now)
            progress = progress_row(run.view.progress, described)
            words: Row = ((described, "plain"),)
            parts = [requested] if requested else []
            return [separated([*parts, each], "   ") for each in (progress, words)]
        return [requested]

    # Keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if not self.is_mounted:
            return True
        state = self.run.state if self.run else None
        live = self.run is not None and self.run.live
        is_kept = self.run is not None and self.run.is_kept
        can_resume = is_kept and state in ("stopped", "failed", "lost")
        match action:
            case "train":
                return not live
            case "pause":
                return state in ("starting", "running")
            case "continue":
                return state == "paused"
            case "stop":
                return live
            case "checkpoint" | "validate" | "rate":
                return state in ("running", "paused")
            case "skip":
                return live and self.run is not None and can_skip(self.run.view)
            case "apply":
                if state in ("failed", "lost"):
                    return can_resume and bool(self._changes_to_resume_with())
                return state == "running" and command_of(self._advice) is not None
            case "export":
                return self.run is not None and not live and bool(self.run.view.checkpoints)
            case "resume":
                return can_resume
            case _:
                return super().check_action(action, parameters)

    def action_train(self) -> None:
        """Start a run with the current recipe."""
        self.post_message(TrainingRequested())

    def action_resume(self) -> None:
        """Continue this run from its last checkpoint."""
        if self.run is not None:
            self.post_message(ResumeRequested(self.run.directory))

    def action_export(self) -> None:
        """Ask what to export of this run, or show the export that is running."""
        if self.run is not None:
            self.post_message(ExportRequested(self.run))

    def action_pause(self) -> None:
        """Pause after this step."""
        self._request(Pause())

    def action_continue(self) -> None:
        """Continue after a pause."""
        self._request(Continue())

    def action_checkpoint(self) -> None:
        """Save adapter and resume state after this step."""
        self._request(SaveCheckpoint())

    def action_validate(self) -> None:
        """Compute the validation loss after this step."""
        self._request(Validate())

    def action_skip(self) -> None:
        """Skip the sample in progress, or the validation before the first step."""
        self._request(Skip())

    def action_rate(self, factor: float) -> None:
        """Multiply the learning rate; pressed again while pending, multiply the requested one."""
        rate = self._current_rate()
        if rate:
            self._request(SetLearningRate(float(f"{rate * factor:.3g}"), rate))

    def action_apply(self) -> None:
        """Follow the advice; a failed run is resumed with the change that it advises."""
        if self.run is not None and (changes := self._changes_to_resume_with()):
            self.post_message(ResumeRequested(self.run.directory, changes))
            return
        command = command_of(self._advice)
        if isinstance(command, Stop):
            self.action_stop()
        elif command is not None:
            self._request(SetLearningRate(command.value, self._current_rate() or 0.0))

    def _changes_to_resume_with(self) -> dict[str, object]:
        run = self.run
        advice = after_ending(run) if run and run.state in ("failed", "lost") else None
        return dict([advice.change]) if advice and advice.change else {}

    def _current_rate(self) -> float | None:
        """The requested learning rate, or else the run's."""
        for pending in self._pending:
            if isinstance(pending.command, SetLearningRate):
                return pending.command.value
        if self.run is None:
            return None
        return self.run.view.learning_rate or self.run.recipe.learning_rate

    def action_stop(self) -> None:
        """Ask, then finish the step, save, and end the run."""
        if self.run is not None:
            self._stop_dialog = ConfirmDialog(stop_question(self.run.view), "Stop and save")
            self.app.push_screen(self._stop_dialog, self._stop_if)

    def _update_stop_dialog(self) -> None:
        """Keep an open question up to date; close it when the run ends."""
        dialog = self._stop_dialog
        if dialog is None or self.app.screen is not dialog:
            return
        if self.run is not None and self.run.live:
            dialog.ask(stop_question(self.run.view))
        else:
            dialog.action_cancel()

    def _stop_if(self, confirmed: bool | None) -> None:
        self._stop_dialog = None
        if confirmed:
            self._request(Stop())

    def _request(self, command: AnyCommand) -> None:
        if self.run is None:
            return
        others = tuple(each for each in self._pending if type(each.command) is not type(command))
        self._pending = (*others, PendingCommand(command, self.clock(), self.run.view))
        self.update_advice()
        self.post_message(CommandIssued(command))
        self.show_notice()


def live_row(rows: Sequence[Row], progress: ProgressMade | None, width: int) -> Row:
    """The first row that fits, with the text so far of a sample that is being generated."""
    row = next((each for each in rows if width_of(each) <= width), rows[-1])
    text = sample_so_far(progress, width - width_of(row) - 2)
    return (*row, ("  ", "plain"), (text, "muted")) if text else row


def stop_question(view: RunView) -> str:
    """What stopping would do now."""
    position = f"step {view.step} of {view.iters}"
    if view.progress is None or view.progress.stage != "validating":
        return f"Stop at {position}, save, and end the run?"
    return f"Skip the validation, save, and end at {position}?"
