"""A run's figures in a table, read from its journal without decoding most of its lines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from mlxft import recipe as recipes
from mlxft.errors import RecipeError
from mlxft.recipe import Recipe
from mlxft.recipe.differences import differences
from mlxft.runs import events as ev
from mlxft.runs.events import AnyEvent, decode
from mlxft.runs.journal import JournalReader
from mlxft.runs.steps import mean
from mlxft.runs.view import KEPT_REPORTS, RATE_WINDOW, Ending

_STEP: Final = b'{"event":"step_finished"'
_SAMPLED: Final = b'{"event":"machine_sampled"'
_PROGRESS: Final = b'{"event":"progress_made"'
"""How the lines begin that are most of a journal. Another spelling is only read more slowly."""

_OF_ALL_SESSIONS: Final = (
    *("started", "device", "trainable_parameters", "train_records", "valid_records"),
    "fingerprints",
)
"""What a resume leaves as it was, until it says something else."""

E = TypeVar("E", bound=AnyEvent)


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a journal says of a run in a line of a table; None or empty where it says nothing.

    Memory is in bytes, times in seconds since 1970. Losses, speed and memory are those that
    `RunView` and `RunFinished` show.
    """

    started: float | None = None
    last_time: float | None = None
    host: str = ""
    device: str = ""
    versions: dict[str, str] = {}
    recipe: dict[str, Any] | None = None
    """The values of the latest session that differ from the defaults; None before the first."""
    iters: int = 0
    step: int = 0
    ending: Ending | None = None
    reason: str = ""
    """The message of a failure."""
    paused: bool = False
    has_trained: bool = False
    """Whether the latest session has finished a step."""
    loss: float | None = None
    baseline_loss: float | None = None
    validation_loss: float | None = None
    """The latest one's."""
    validation_preference: ev.Preference | None = None
    best_validation_loss: float | None = None
    best_validation_step: int | None = None
    tokens_per_second: float | None = None
    peak_memory: int | None = None
    seconds: float | None = None
    """Of a run that has ended: those of all its sessions."""
    trainable_parameters: int | None = None
    train_records: int | None = None
    valid_records: int | None = None
    fingerprints: dict[str, str] = {}
    """The data's, by split."""


class SummaryReader:
    """Reads the summary of a journal, and then only what is appended to it."""

    def __init__(self, journal: Path) -> None:
        self._reader = JournalReader(journal)
        self._forget()

    def _forget(self) -> None:
        self._figures: dict[str, Any] = {}
        """The fields of a `Summary` so far."""
        self._summary = Summary()
        self._recent: list[ev.StepFinished] = []
        self._reports: list[ev.TrainReported] = []
        self._validations: list[ev.ValidationFinished] = []
        self._losses: list[float] = []
        """The losses of the steps before the first report."""

    def read(self) -> Summary:
        """The summary of all that was written so far."""
        if self._reader.restarted():
            self._forget()
        for lines in self._reader.lines():
            self._add(lines)
            self._conclude()
        return self._summary

    def _add(self, lines: Sequence[bytes]) -> None:
        steps: list[bytes] = []
        sampled: bytes | None = None
        for line in lines:
            if line.startswith(_STEP):
                steps.append(line)
            elif line.startswith(_SAMPLED):
                sampled = line
            elif not line.startswith(_PROGRESS) and (event := decode(line)) is not None:
                if isinstance(event, ev.RunStarted):
                    # A resume undoes steps.
                    self._add_steps(steps)
                    steps = []
                if isinstance(event, ev.RunStarted | ev.TrainReported | ev.RunFinished):
                    sampled = None  # These replace the peak that was sampled before.
                self._add_event(event)
        self._add_steps(steps)
        if (machine := _decoded(sampled, ev.MachineSampled)) and machine.peak_memory is not None:
            self._change(peak_memory=machine.peak_memory)
        last = next((event for line in reversed(lines) if (event := decode(line))), None)
        if last is not None:
            self._change(last_time=last.time)

    def _change(self, **changes: Any) -> None:
        self._figures.update(changes)

    def _add_steps(self, lines: Sequence[bytes]) -> None:
        """Count steps: all before the first report, then only the latest."""
        kept = lines if not self._reports else lines[-RATE_WINDOW:]
        found = [step for line in kept if (step := _decoded(line, ev.StepFinished))]
        if not found:
            return
        if not self._reports:
            self._losses += [each.loss for each in found if math.isfinite(each.loss)]
        self._recent = [*self._recent, *found][-RATE_WINDOW:]
        self._change(step=found[-1].step, has_trained=True)

    def _add_event(self, event: AnyEvent) -> None:
        match event:
            case ev.RunStarted():
                self._start(event)
            case ev.BackendReady():
                self._change(device=event.device)
            case ev.ModelLoaded():
                self._change(trainable_parameters=event.trainable_parameters)
            case ev.DataPrepared():
                self._change(
                    train_records=event.train_records,
                    valid_records=event.valid_records,
                    fingerprints=event.fingerprints,
                )
            case ev.TrainReported():
                self._reports.append(event)
                self._losses = []
                self._change(peak_memory=event.peak_memory)
            case ev.ValidationFinished():
                while self._validations and self._validations[-1].step >= event.step:
                    self._validations.pop()
                self._validations.append(event)
            case ev.RunPaused():
                self._change(paused=True)
            case ev.RunContinued():
                self._change(paused=False)
            case ev.RunFinished():
                self._change(ending=event.reason, paused=False, **_of_ending(event))
            case ev.RunFailed():
                self._change(ending="failed", reason=event.message, paused=False)

    def _start(self, event: ev.RunStarted) -> None:
        """Begin a session: what a resume has undone counts no more."""
        start = event.start_step
        self._recent = []
        self._reports = [each for each in self._reports if each.step <= start]
        self._validations = [each for each in self._validations if each.step <= start]
        if start == 0:
            self._losses = []
        kept = {key: each for key, each in self._figures.items() if key in _OF_ALL_SESSIONS}
        self._figures = {
            "started": event.time,
            **kept,
            "host": event.host,
            "versions": event.versions,
            "recipe": recipe_values(event.recipe),
            "iters": event.iters,
            "step": start,
        }

    def _conclude(self) -> None:
        """Compute the figures that follow from several events."""
        del self._reports[:-KEPT_REPORTS]
        validations = self._validations
        latest = validations[-1] if validations else None
        baseline = validations[0] if validations and validations[0].step == 0 else None
        finite = [each for each in validations if each.step and math.isfinite(each.loss)]
        best = min(finite, key=lambda each: each.loss, default=None)
        self._change(
            loss=self._loss(),
            baseline_loss=baseline.loss if baseline else None,
            validation_loss=latest.loss if latest else None,
            validation_preference=latest.preference if latest else None,
            best_validation_loss=best.loss if best else None,
            best_validation_step=best.step if best else None,
        )
        seconds = sum(each.seconds for each in self._recent)
        if "seconds" not in self._figures and seconds > 0:
            tokens = sum(each.tokens for each in self._recent)
            self._change(tokens_per_second=tokens / seconds)
        self._summary = Summary(**self._figures)

    def _loss(self) -> float | None:
        if self._reports:
            return self._reports[-1].loss
        return mean(self._losses)


def _decoded(line: bytes | None, kind: type[E]) -> E | None:
    event = decode(line) if line is not None else None
    return event if isinstance(event, kind) else None


def _of_ending(event: ev.RunFinished) -> dict[str, Any]:
    return {
        "tokens_per_second": event.tokens_per_second,
        "peak_memory": event.peak_memory or None,
        "seconds": event.seconds,
    }


_DEFAULTS: Final = recipes.to_mapping(Recipe())


def recipe_values(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """The values by dotted key that a recorded recipe has other than the defaults.

    Empty for a recipe of another version that can't be read.
    """
    try:
        if mapping.keys() >= _DEFAULTS.keys():
            # Checking only values that differ takes a tenth of the time.
            changed = {key: value for key, value in mapping.items() if _is_changed(key, value)}
            recipe = recipes.from_mapping(changed)
        else:
            recipe = recipes.from_run(mapping)
    except RecipeError:
        return {}
    return values_of(recipe)


def _is_changed(key: str, value: object) -> bool:
    return bool(key not in _DEFAULTS or _DEFAULTS[key] != value)


def values_of(recipe: Recipe) -> dict[str, Any]:
    """A recipe's values by dotted key that differ from the defaults."""
    return {key: value for key, (_, value) in differences(Recipe(), recipe).items()}
