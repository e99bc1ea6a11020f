"""What advice is, and what it is given of a recipe's memory and of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

Kind = Literal[
    "learning_rate",
    "memory",
    "speed",
    "data",
    "validation",
    "spike",
    "ruined",
    "plateau",
    "overfitting",
    "swap",
    "pressure",
    "display",
]


@dataclass(frozen=True)
class Advice:
    """What to do and why; `change` is the recipe's key and its new value, if one would help."""

    kind: Kind
    message: str
    evidence: str
    change: tuple[str, Any] | None = None


class Need(Protocol):
    """What a recipe needs, as an estimator tells it; bytes."""

    @property
    def total(self) -> int: ...
    @property
    def limit(self) -> int | None: ...
    @property
    def verdict(self) -> str: ...


class Validation(Protocol):
    """A validation's mean loss after a step."""

    @property
    def step(self) -> int: ...
    @property
    def loss(self) -> float: ...


@dataclass(frozen=True)
class RateChange:
    """A change of the learning rate by hand: after which step, and whether to a lower one."""

    step: int
    lowered: bool


class Machine(Protocol):
    """One look at the machine; a figure that can't be had is None."""

    @property
    def swap_used(self) -> int | None: ...
    @property
    def memory_pressure(self) -> str | None: ...
    @property
    def gpu_share(self) -> float | None: ...
    @property
    def cpu_share(self) -> float | None: ...


def shown(value: object) -> str:
    """A value of a recipe as advice names it."""
    return "on" if value is True else str(value)


def gigabytes(size: int) -> str:
    """Bytes as decimal gigabytes with one digit."""
    return f"{size / 1e9:.1f}"
