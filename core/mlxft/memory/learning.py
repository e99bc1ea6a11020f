"""What the measured peaks of several models say about the estimates of others."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final

from mlxft.memory.step_memory import NONE, Corrections, StepMemory

FEWEST: Final = 3
"""Peaks from which anything is learned."""

SCATTER: Final = 0.04
"""What estimates are off by from recipe to recipe, relatively: a self-test's peaks by 0.036."""

BETTER: Final = 0.75
"""The share of the error that may remain where peaks are estimated by those of other models; what
is less clear may be chance."""

LIKELY: Final = 0.3
"""How far corrections are likely to be from 1, as a logarithm."""

_STEPS: Final = (0.16, 0.08, 0.04, 0.02, 0.01, 0.005)
_PASSES: Final = 12
_FOLDS: Final = 5


@dataclass(frozen=True)
class Measured:
    """A measured peak in bytes, what the step was estimated to take, and which model it was."""

    step: StepMemory
    peak: int
    model: Hashable

    def off(self, by: Corrections) -> float:
        """The logarithm of the estimate over the measured peak."""
        return math.log(self.step.peak(by) / self.peak)


@dataclass(frozen=True)
class Learned:
    """Corrections, the number of peaks they come from, and the largest relative error of those that
    they were not learned from."""

    corrections: Corrections = NONE
    peaks: int = 0
    error: float | None = None


def learned(peaks: Sequence[Measured]) -> Learned:
    """The corrections that these peaks suggest, if they make the estimates of other models better.

    The peaks of some models at a time are left out and estimated by the others' corrections; where
    those are hardly nearer than without, nothing is corrected.
    """
    if len(peaks) < FEWEST:
        return Learned()
    plain, corrected = 0.0, []
    for fold in _folds(peaks):
        by = fitted([each for at, each in enumerate(peaks) if at not in fold])
        plain += math.fsum(abs(peaks[at].off(NONE)) for at in fold)
        corrected += [abs(peaks[at].off(by)) for at in fold]
    if math.fsum(corrected) > BETTER * plain:
        return Learned()
    return Learned(fitted(peaks), len(peaks), math.expm1(max(corrected)))


def _folds(peaks: Sequence[Measured]) -> list[set[int]]:
    """Places of the peaks by model, in a few groups; each for itself if all are of one model."""
    models = list(dict.fromkeys(each.model for each in peaks))
    numbers = [models.index(each.model) for each in peaks]
    if len(models) == 1:
        numbers = list(range(len(peaks)))
    groups = range(min(_FOLDS, max(numbers) + 1))
    return [
        {at for at, number in enumerate(numbers) if number % _FOLDS == group} for group in groups
    ]


def fitted(peaks: Sequence[Measured]) -> Corrections:
    """The likeliest corrections: a large error counts little, and 1 is likely without evidence."""
    best = (0.0, 0.0, 0.0)
    least = _unlikelihood(peaks, best)
    for step in _STEPS:
        for _ in range(_PASSES):
            before = least
            for at in range(len(best)):
                for change in (step, -step):
                    tried = _moved(best, at, change)
                    while (unlikelihood := _unlikelihood(peaks, tried)) < least:
                        best, least = tried, unlikelihood
                        tried = _moved(best, at, change)
            if least == before:
                break
    return _corrections(best)


_Logarithms = tuple[float, float, float]


def _moved(logarithms: _Logarithms, at: int, change: float) -> _Logarithms:
    kept, worked, loss = (each + change * (index == at) for index, each in enumerate(logarithms))
    return kept, worked, loss


def _unlikelihood(peaks: Sequence[Measured], logarithms: _Logarithms) -> float:
    by = _corrections(logarithms)
    errors = math.fsum(_robust(each.off(by) / SCATTER) for each in peaks)
    return errors + math.fsum((each / LIKELY) ** 2 for each in logarithms)


def _robust(error: float) -> float:
    """The square of a small error; a large one counts by its size (Huber)."""
    size = abs(error)
    return size * size if size <= 2 else 4 * size - 4


def _corrections(logarithms: _Logarithms) -> Corrections:
    kept, worked, loss = map(math.exp, logarithms)
    return Corrections(kept=kept, worked=worked, loss=loss)
