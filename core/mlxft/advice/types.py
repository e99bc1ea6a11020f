"""What advice is, and what it needs to know about memory and a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from mlxft.recipe import Recipe

Topic = Literal[
    "learning_rate",
    "memory",
    "speed",
    "data",
    "validation",
    "spike",
    "diverged",
    "plateau",
    "overfitting",
    "preference",
    "swap",
    "pressure",
    "display",
    "reporting",
    "ranks",
]


@dataclass(frozen=True)
class Advice:
    """What to do and why; `change` is a recipe key and its new value, if one helps."""

    topic: Topic
    message: str
    evidence: str
    change: tuple[str, Any] | None = None
    records_listed: bool = False
    """Whether the records it is about are listed where the data is checked."""


class MemoryNeed(Protocol):
    """The estimated memory of a recipe, in bytes."""

    @property
    def total(self) -> int: ...
    @property
    def limit(self) -> int | None: ...
    @property
    def verdict(self) -> str: ...


EstimateMemory = Callable[[Recipe], MemoryNeed]


class Validation(Protocol):
    """A validation's mean loss after a step."""

    @property
    def step(self) -> int: ...
    @property
    def loss(self) -> float: ...


@dataclass(frozen=True)
class RateChange:
    """A manual change of the learning rate: after which step, and whether it was lowered."""

    step: int
    lowered: bool


@dataclass(frozen=True)
class PreferenceCurves:
    """What every step says of the preference, in order; empty with the loss sft. NaN is unknown."""

    margin: Sequence[float] = ()
    accuracy: Sequence[float] = ()
    chosen_reward: Sequence[float] = ()
    rejected_reward: Sequence[float] = ()
    chosen_logp: Sequence[float] = ()


class MachineSample(Protocol):
    """A sample of the machine; None for a figure that isn't available."""

    @property
    def swap_used(self) -> int | None: ...
    @property
    def memory_pressure(self) -> str | None: ...
    @property
    def gpu_share(self) -> float | None: ...
    @property
    def cpu_share(self) -> float | None: ...


def shown(value: object) -> str:
    """A recipe value as advice writes it."""
    return "on" if value is True else str(value)


def gigabytes(size: int) -> str:
    """Bytes as decimal gigabytes with one digit."""
    return f"{size / 1e9:.1f}"
