"""The next point of a search, as a pure function of its seed and of what became of the others.

Optuna draws it. It is imported with the first point only, and its state is made from the sweep's
points each time, so nothing is lost with the process that asks.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mlxft.errors import RecipeError
from mlxft.sweep.plan import Search
from mlxft.sweep.space import Axis, Choice, Space

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

FIRST_RANDOM: Final = 5
"""Points with a loss before TPE is asked. Optuna's own number, 10, is a whole small budget."""

MOST_DRAWS: Final = 100
"""Draws of a point that was tried already before the space counts as searched."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """An earlier point of a search."""

    values: Mapping[str, Any]
    loss: float | None = None
    """The lowest validation loss; infinite if it can't be trained, None where it isn't known."""


def missing_optuna() -> str:
    """How to install Optuna, as a sentence; empty where it is installed. Doesn't import it."""
    if importlib.util.find_spec("optuna") is not None:
        return ""
    return "A search needs Optuna, which isn't installed; run pip install 'optuna>=5,<6'."


def require_optuna() -> None:
    """Raise `RecipeError` where Optuna isn't installed."""
    if missing := missing_optuna():
        raise RecipeError(missing)


def search_rule(search: Search) -> str:
    """How points are drawn and when the last one is, as a sentence."""
    method = "Random points"
    if search.method == "tpe":
        method = f"TPE by validation loss after {FIRST_RANDOM} random points"
    runs = _counted(search.runs, "run") if search.runs is not None else ""
    hours = f"{_counted(search.hours, 'hour')} of training" if search.hours is not None else ""
    budget = " or ".join(filter(None, (runs, hours)))
    return f"{method}, seed {search.seed}, until {budget}."


def _counted(number: float, noun: str) -> str:
    return f"{number:g} {noun}" if number == 1 else f"{number:g} {noun}s"


def next_values(space: Space, search: Search, tried: Sequence[Tried]) -> dict[str, Any] | None:
    """The values of the next point, or None if all of the space was tried.

    The same seed and the same results give the same point, whichever process asks. Raises
    `RecipeError` where Optuna isn't installed.
    """
    require_optuna()
    before = [dict(each.values) for each in tried]
    for attempt in range(MOST_DRAWS):
        values = _drawn(space, search, tried, attempt)
        if values not in before:
            return values
    return None


def _drawn(space: Space, search: Search, tried: Sequence[Tried], attempt: int) -> dict[str, Any]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    known = [each for each in tried if each.loss is not None]
    learns = sum(math.isfinite(each.loss or 0.0) for each in known) >= FIRST_RANDOM
    seed = _seed(search.seed, len(tried), attempt)
    # After some draws of known points only chance leads out.
    is_random = search.method == "random" or not learns or attempt >= MOST_DRAWS // 2
    study = optuna.create_study(sampler=_sampler(seed, is_random=is_random))
    distributions = {key: _distribution(axis) for key, axis in space.items()}
    study.add_trials([_trial(space, distributions, each) for each in known])
    found = study.ask(distributions).params
    return {key: _value(axis, found[key]) for key, axis in space.items()}


def _sampler(seed: int, *, is_random: bool) -> BaseSampler:
    from optuna.samplers import RandomSampler, TPESampler

    if is_random:
        return RandomSampler(seed=seed)
    return TPESampler(seed=seed, n_startup_trials=0, multivariate=False)


def _seed(seed: int, number: int, attempt: int) -> int:
    digest = hashlib.sha256(f"{seed} {number} {attempt}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def _distribution(axis: Axis) -> BaseDistribution:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if isinstance(axis, Choice):
        # By their places, since a value may be a list or a mapping.
        return CategoricalDistribution(range(len(axis.values)))
    if axis.is_int:
        return IntDistribution(int(axis.first), int(axis.last), log=axis.is_log)
    return FloatDistribution(axis.first, axis.last, log=axis.is_log)


def _value(axis: Axis, drawn: Any) -> Any:
    return axis.values[drawn] if isinstance(axis, Choice) else axis.rounded(drawn)


def _trial(space: Space, distributions: dict[str, BaseDistribution], tried: Tried) -> FrozenTrial:
    from optuna.trial import create_trial

    params = {
        key: axis.values.index(tried.values[key]) if isinstance(axis, Choice) else tried.values[key]
        for key, axis in space.items()
    }
    return create_trial(params=params, distributions=distributions, value=tried.loss)
