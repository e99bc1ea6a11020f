"""`mlxft-tui check-hosts`: whether the machines of a recipe's `hosts` can train it together."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final, get_args

import msgspec

from mlxft.doctor.hosts.check import check_machines
from mlxft.doctor.hosts.judged import Need
from mlxft.doctor.report_text import WIDEST, report_lines
from mlxft.errors import ModelError
from mlxft.memory.estimator import BackendKind, estimate
from mlxft.memory.local_config import local_config
from mlxft.memory.shapes import ModelShapes
from mlxft.recipe import Recipe
from mlxft.text import path_json
from mlxft_tui.cli.doctor import mapping

_KINDS: Final[tuple[BackendKind, ...]] = get_args(BackendKind)


def print_hosts(recipe: Recipe, folder: Path, *, as_json: bool) -> int:
    """Print the findings of each machine; 1 if there is a problem, else 0.

    Raises `RecipeError` for hosts that can't be read.
    """
    report = check_machines(recipe, folder, needed(recipe, folder))
    if as_json:
        print(path_json.indented(mapping(report)).decode())
    else:
        columns = shutil.get_terminal_size((WIDEST, 24)).columns
        print("\n".join(each.text for each in report_lines(report, columns)))
    return int(report.has_problem)


def needed(recipe: Recipe, folder: Path) -> Need:
    """Bytes that a rank needs on each kind of device; none where the model isn't here."""
    try:
        shapes = ModelShapes.from_config(local_config(recipe.model, folder))
    except (ModelError, msgspec.ValidationError):
        return {}
    return {kind: estimate(shapes, recipe, kind, None).total for kind in _KINDS}
