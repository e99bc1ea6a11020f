"""Recipes to start from or to compare with: the defaults, presets and earlier runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from mlxft.recipe import Recipe
from mlxft.recipe.presets import PRESETS, Preset, applied
from mlxft.runs.followed import FollowedRun
from mlxft.text import figures
from mlxft.text.printable import printable_line
from mlxft_tui.recipe.costs import Costs

DEFAULTS: Final = Preset("the defaults", "")


@dataclass(frozen=True)
class StartingPoint:
    """A named recipe."""

    name: str
    recipe: Recipe
    purpose: str = ""

    def described(self, costs: Costs) -> tuple[str, str]:
        """Its name, and its memory and time on this machine with its purpose."""
        own = costs.of(self.recipe)
        memory = costs.estimator.estimate(self.recipe) if costs.estimator else None
        size = f"{figures.gigabytes(memory.total):>5} GB  " if memory else ""
        time = f"{figures.duration(own.duration.seconds):>8}  " if own.duration else ""
        return printable_line(self.name), size + time + self.purpose


def starting_points(costs: Costs, runs: Iterable[FollowedRun]) -> list[StartingPoint]:
    """Presets, then earlier runs, the newest first."""
    presets = [_from_preset(each, costs) for each in PRESETS]
    return [*presets, *(StartingPoint(run.directory.name, run.recipe) for run in runs)]


def defaults(costs: Costs) -> StartingPoint:
    """The recipe's model and data with every other parameter at its default."""
    return StartingPoint(DEFAULTS.name, applied(DEFAULTS, costs.recipe))


def _from_preset(preset: Preset, costs: Costs) -> StartingPoint:
    made = applied(preset, costs.recipe, costs.train_records, costs.known_blocks)
    return StartingPoint(preset.name, made, preset.purpose)
