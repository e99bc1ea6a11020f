"""Commands sent to an engine and not yet confirmed by the run's journal."""

from __future__ import annotations

from dataclasses import dataclass

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
from mlxft.runs.events import AnyEvent, LearningRateChanged, RunContinued, RunPaused
from mlxft.runs.view import RunView, can_skip
from mlxft.text import figures


@dataclass(frozen=True, eq=False)
class Refused:
    """A command that no engine accepted."""

    command: AnyCommand


@dataclass(frozen=True)
class PendingCommand:
    """A command, when it was sent (seconds of the viewer's clock), and the run at that time."""

    command: AnyCommand
    since: float
    before: RunView

    @property
    def text(self) -> str:
        """What was requested, in a few words."""
        match self.command:
            case Pause():
                return "pause after this step"
            case Continue():
                return "continue"
            case Stop():
                return "stop and save"
            case SaveCheckpoint():
                return "checkpoint"
            case Validate():
                return "validation"
            case Skip():
                return "skip"
            case SetLearningRate(value=value):
                return f"learning rate {figures.learning_rate(value)}"
            case _:
                return "answer"

    def is_confirmed(self, view: RunView) -> bool:
        """Whether the journal shows that it was carried out."""
        match self.command:
            case Pause():
                # It may have been paused and continued between two polls.
                return view.paused or self._is_logged(view, RunPaused)
            case Continue():
                return not view.paused or self._is_logged(view, RunContinued)
            case SaveCheckpoint():
                return len(view.checkpoints) > len(self.before.checkpoints)
            case Validate():
                # The same weights are not validated twice.
                latest = view.validations[-1] if view.validations else None
                has_new = len(view.validations) > len(self.before.validations)
                return has_new or (latest is not None and latest.step == view.step)
            case Skip():
                return not can_skip(view)
            case SetLearningRate():
                return self._is_logged(view, LearningRateChanged)
            case _:
                return view.ending is not None

    def _is_logged(self, view: RunView, event: type[AnyEvent]) -> bool:
        """Whether the journal has such an event after the command."""
        seen = self.before.log[-1].seq if self.before.log else 0
        return any(each.seq > seen and isinstance(each, event) for each in view.log)
