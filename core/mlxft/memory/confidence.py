"""How accurate a memory estimate is, and what it assumes, in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlxft.hosts import ONE_RANK, RankCount
from mlxft.memory.calibration import ERRORS, Calibration
from mlxft.text import figures

if TYPE_CHECKING:
    from mlxft.memory.estimator import MemoryEstimate
    from mlxft.memory.fitted import BackendKind


LEAST_ERROR = 0.02
"""A few similar runs that agree don't prove more than this."""


NOTABLE = 0.01
"""A smaller correction of a part isn't named."""


@dataclass(frozen=True, kw_only=True)
class AttentionAssumption:
    """How attention is counted; `certain` by measurements or the trainer's own code.

    `otherwise` is the total if attention keeps all scores for its backward pass, where that is not
    certain and would be notably more.
    """

    kind: BackendKind
    packed: bool
    certain: bool
    otherwise: int | None = None

    @property
    def line(self) -> str:
        """The assumption in words."""
        if not self.certain:
            kept = f"{figures.gigabytes(self.otherwise)} GB" if self.otherwise else "much the same"
            return f"fused (not measured on Macs yet); {kept} if it keeps its scores"
        match self.kind:
            case "cpu":
                return "in blocks of queries, keeps no scores"
            case "cuda":
                return "fused or in blocks of queries, keeps no scores"
            case _ if self.packed:
                return "in blocks of queries, keeps no scores"
        return "fused, as this machine's runs have shown"


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """What an estimate assumes.

    `row` is the tokens of the longest row, `measured` whether it comes from the data;
    `used_elsewhere` and `installed` are bytes of the device's memory, None if unknown.
    """

    kind: BackendKind
    calibration: Calibration = field(default_factory=Calibration)
    attention: AttentionAssumption | None = None
    row: int | None = None
    measured: bool = False
    used_elsewhere: int | None = None
    installed: int | None = None
    ranks: RankCount = ONE_RANK

    @property
    def free(self) -> int | None:
        """Bytes that no other program uses, of several ranks here the part of one."""
        if self.used_elsewhere is None or self.installed is None:
            return None
        return (self.installed - self.used_elsewhere) // self._sharing

    @property
    def _sharing(self) -> int:
        """Ranks that share this machine's memory; each NVIDIA GPU has its own."""
        return 1 if self.kind == "cuda" else self.ranks.here

    @property
    def processes(self) -> str:
        """Whose memory it is where there are several processes; or empty."""
        if self.ranks.all == 1:
            return ""
        shared = f"; {self._sharing} share this machine's" if self._sharing > 1 else ""
        return f"of each of {self.ranks.all} processes{shared}"

    @property
    def lines(self) -> list[str]:
        """Processes, row length, an uncertain attention, what other models' runs correct, and what
        other programs use."""
        lines = [self.processes] if self.processes else []
        if self.row is not None:
            source = "longest record, padded" if self.measured else "max_seq_length"
            lines.append(f"rows of up to {figures.count(self.row)} tokens ({source})")
        if self.attention is not None and self.attention.otherwise is not None:
            kept = figures.gigabytes(self.attention.otherwise)
            lines.append(f"attention: fused; {kept} GB if it keeps its scores")
        if (learned := _learned(self.calibration)) is not None:
            lines.append(learned)
        if self.used_elsewhere is not None and self.installed is not None:
            used, installed = map(figures.gigabytes, (self.used_elsewhere, self.installed))
            lines.append(f"other programs use {used} of {installed} GB")
        return lines


def _learned(calibration: Calibration) -> str | None:
    """Which parts other models' runs and the self-test correct; None if none notably."""
    factors = {
        part: factor
        for part, factor in calibration.corrections.parts.items()
        if abs(factor - 1) >= NOTABLE
    }
    if not factors:
        return None
    runs = calibration.others - calibration.tested
    sources = ["the self-test"] if calibration.tested else []
    sources += [f"{runs} {'run' if runs == 1 else 'runs'} of other models"] if runs else []
    by = ", ".join(f"{part} ×{factor:.2f}" for part, factor in factors.items())
    return f"corrected by {' and '.join(sources)}: {by}"


def confidence(estimate: MemoryEstimate, assumptions: Assumptions) -> str:
    """The expected error of an estimate, and where that is known from."""
    calibration, error = assumptions.calibration, ERRORS[assumptions.kind]
    runs = f"{calibration.runs} {'run' if calibration.runs == 1 else 'runs'}"
    if not estimate.known_family:
        if estimate.correction == 1:
            return "rough guess: unknown model family"
        return f"guess, corrected ×{estimate.correction:.2f} by {runs} here"
    whose = "" if calibration.same_model else " of other models"
    applies = abs(estimate.correction - 1) >= 0.5 * abs(calibration.factor - 1)
    if not calibration.same_model and calibration.tested == calibration.others:
        runs, whose = f"the self-test's {calibration.tested} measurements", ""
    if calibration.runs and applies:
        corrected = f"corrected ×{estimate.correction:.2f} by {runs}{whose} here"
        if calibration.error is None:
            return corrected
        return f"± {max(LEAST_ERROR, calibration.error):.0%}, {corrected}"
    if error is None:
        return "not measured on Macs yet"
    return f"± {error:.0%} until runs correct it"
