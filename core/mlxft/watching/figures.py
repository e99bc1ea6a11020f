"""A run's events as the figures that trackers show."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from mlxft.runs import events as ev
from mlxft.runs.events import AnyEvent

Kind = Literal["train", "validation", "sample"]


@dataclass(frozen=True)
class Point:
    """What a tracker gets after a step: figures by name, or a sample's text."""

    kind: Kind
    step: int
    figures: dict[str, float] = field(default_factory=dict)
    text: str = ""


class Figures:
    """Makes the points of one session from its events, in order.

    Names and units are those that mlx-lm reports, memory in GB; those of preferences are TRL's.
    """

    def __init__(self) -> None:
        self._norms: list[float] = []
        self._preferences: list[ev.Preference] = []

    def add(self, event: AnyEvent) -> Point | None:
        """The point that an event completes, if it does."""
        match event:
            case ev.StepFinished():
                if event.gradient_norm is not None:
                    self._norms.append(event.gradient_norm)
                if event.preference is not None:
                    self._preferences.append(event.preference)
                return None
            case ev.TrainReported():
                return Point("train", event.step, self._reported(event))
            case ev.ValidationFinished():
                found = [event.preference] if event.preference else []
                figures = {"val_loss": event.loss, "val_time": event.seconds}
                figures |= _preference_figures(found, "val_")
                return Point("validation", event.step, figures)
            case ev.SampleAnswered():
                return Point("sample", event.step, text=f"{event.prompt}\n\n{event.text}")
            case _:
                return None

    def _reported(self, event: ev.TrainReported) -> dict[str, float]:
        figures = {
            "train_loss": event.loss,
            "learning_rate": event.learning_rate,
            "iterations_per_second": event.steps_per_second,
            "tokens_per_second": event.tokens_per_second,
            "trained_tokens": float(event.trained_tokens),
            "peak_memory": event.peak_memory / 1e9,
            "active_memory": event.active_memory / 1e9,
            "cache_memory": event.cache_memory / 1e9,
            **({"gradient_norm": _mean(self._norms)} if self._norms else {}),
            **_preference_figures(self._preferences, ""),
        }
        self._norms.clear()
        self._preferences.clear()
        return figures


def summary_of(ending: ev.RunFinished | ev.RunFailed | None) -> dict[str, float]:
    """The figures that a run's last event sums it up with."""
    if not isinstance(ending, ev.RunFinished):
        return {}
    figures = {
        "final_loss": ending.final_loss,
        "baseline_val_loss": ending.baseline_loss,
        "best_val_loss": ending.best_validation_loss,
        "best_val_step": ending.best_validation_step,
        "seconds": ending.seconds,
    }
    return {name: float(value) for name, value in figures.items() if value is not None}


def configuration(started: ev.RunStarted) -> dict[str, Any]:
    """The recipe and the versions that a session is trained with."""
    return {**started.recipe, "versions": started.versions, "host": started.host}


_TRL_NAMES: Final = {
    "chosen_reward": "rewards/chosen",
    "rejected_reward": "rewards/rejected",
    "margin": "rewards/margins",
    "accuracy": "rewards/accuracies",
    "chosen_logp": "logps/chosen",
    "rejected_logp": "logps/rejected",
    "kl": "kl",
}


def _preference_figures(found: Iterable[ev.Preference], prefix: str) -> dict[str, float]:
    """The means of steps or of a validation; empty with the loss sft."""
    figures: dict[str, float] = {}
    for name, shown in _TRL_NAMES.items():
        known = [value for each in found if (value := getattr(each, name)) is not None]
        if known:
            figures[prefix + shown] = _mean(known)
    return figures


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)
