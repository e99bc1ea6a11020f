"""How sure a memory estimate is, and what it takes for granted, in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlxft.memory.calibration import ERRORS, Calibration
from mlxft.text import figures

if TYPE_CHECKING:
    from mlxft.memory.estimator import Kind, MemoryEstimate


LEAST_ERROR = 0.02
"""A few like runs that agree don't tell that the next will."""


@dataclass(frozen=True)
class Standing:
    """What an estimate stands on, as far as it is worth a line.

    `row` is the tokens of the longest row, `measured` whether the data told them; `used_elsewhere`
    and `installed` are bytes of the device's memory, None where they aren't known.
    """

    kind: Kind
    calibration: Calibration = field(default_factory=Calibration)
    row: int | None = None
    measured: bool = False
    used_elsewhere: int | None = None
    installed: int | None = None

    @property
    def free(self) -> int | None:
        """Bytes that no other program uses."""
        if self.used_elsewhere is None or self.installed is None:
            return None
        return self.installed - self.used_elsewhere


def sureness(estimate: MemoryEstimate, standing: Standing) -> str:
    """How far off the estimate may be, and from what that is known."""
    learnt, error = standing.calibration, ERRORS[standing.kind]
    if not estimate.sure:
        return "? a guess: this family of models isn't known"
    runs = f"{learnt.runs} {'run' if learnt.runs == 1 else 'runs'}"
    whose = "" if learnt.same_model else " of other models"
    near = abs(estimate.correction - 1) >= 0.5 * abs(learnt.factor - 1)
    if learnt.runs and near:
        corrected = f"corrected ×{estimate.correction:.2f} by {runs}{whose} here"
        if learnt.error is None:
            return corrected
        return f"± {max(LEAST_ERROR, learnt.error):.0%}, {corrected}"
    if error is None:
        return "± not yet measured on a Mac"
    return f"± {error:.0%} until runs correct it"


def surroundings(standing: Standing) -> list[str]:
    """The rows that were counted on, and what other programs use; a line each."""
    lines = []
    if standing.row is not None:
        why = "the longest here, padded" if standing.measured else "max_seq_length"
        lines.append(f"rows of up to {figures.count(standing.row)} tokens, {why}")
    if standing.used_elsewhere is not None and standing.installed is not None:
        used = figures.gigabytes(standing.used_elsewhere)
        installed = figures.gigabytes(standing.installed)
        lines.append(f"other programs use {used} of {installed} GB")
    return lines
