"""`mlxft-tui check-hosts`: whether the machines of a recipe's `hosts` can train it together."""

from __future__ import annotations

import shutil
from pathlib import Path

from mlxft.doctor.hosts.check import check_machines
from mlxft.doctor.report_text import WIDEST, report_lines
from mlxft.recipe import Recipe
from mlxft.text import path_json
from mlxft_tui.cli.doctor import mapping


def print_hosts(recipe: Recipe, folder: Path, *, as_json: bool) -> int:
    """Print the findings of each machine; 1 if there is a problem, else 0.

    Raises `RecipeError` for hosts that can't be read.
    """
    report = check_machines(recipe, folder)
    if as_json:
        print(path_json.indented(mapping(report)).decode())
    else:
        columns = shutil.get_terminal_size((WIDEST, 24)).columns
        print("\n".join(each.text for each in report_lines(report, columns)))
    return int(report.has_problem)
