"""Commands given to an engine and not yet confirmed by an event of the run's journal."""

from __future__ import annotations

from dataclasses import dataclass

from mlxft.engine.protocol import (
    AnyCommand,
    Continue,
    Pause,
    SaveCheckpoint,
    SetLearningRate,
    Stop,
    Validate,
)
from mlxft.runs.events import AnyEvent, LearningRateChanged, RunContinued, RunPaused
from mlxft.runs.view import RunView
from mlxft.text import figures


@dataclass(frozen=True, eq=False)
class Refused:
    """A command that no engine has taken; nothing will confirm it."""

    command: AnyCommand


@dataclass(frozen=True)
class PendingCommand:
    """A command, when it was given (seconds of the viewer's clock), and the run at that time."""

    command: AnyCommand
    since: float
    before: RunView

    @property
    def text(self) -> str:
        """What was asked, as the rest of “asked …”."""
        match self.command:
            case Pause():
                return "to pause after this step"
            case Continue():
                return "to go on"
            case Stop():
                return "to stop and save"
            case SaveCheckpoint():
                return "for a checkpoint"
            case Validate():
                return "to validate"
            case SetLearningRate(value=value):
                return f"for learning rate {figures.learning_rate(value)}"
            case _:
                return "for an answer"

    def is_confirmed(self, view: RunView) -> bool:
        """Whether the journal says that it was done."""
        match self.command:
            case Pause():
                # It may have gone on again within one look.
                return view.paused or self._is_told(view, RunPaused)
            case Continue():
                return not view.paused or self._is_told(view, RunContinued)
            case SaveCheckpoint():
                return len(view.checkpoints) > len(self.before.checkpoints)
            case Validate():
                # The same weights are not validated twice.
                latest = view.validations[-1] if view.validations else None
                anew = len(view.validations) > len(self.before.validations)
                return anew or (latest is not None and latest.step == view.step)
            case SetLearningRate():
                return self._is_told(view, LearningRateChanged)
            case _:
                return view.ending is not None

    def _is_told(self, view: RunView, event: type[AnyEvent]) -> bool:
        """Whether the journal has such an event of after the command."""
        seen = self.before.log[-1].seq if self.before.log else 0
        return any(each.seq > seen and isinstance(each, event) for each in view.log)
