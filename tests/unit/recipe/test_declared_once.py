"""One declaration is all it takes to add a parameter: it is found everywhere that lists them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

DECLARATION = """
    label_smoothing: Annotated[
        float,
        Declared(
            group="optimization",
            help="Share of the target spread over all tokens.",
            effect=Effect(quality="less confident answers"),
            step="tenth",
            minimum=0,
            maximum=0.9,
            meanings={"0": "no smoothing"},
            mlx_lm="flag",
            resume="fixed",
            changes_tokens="batches",
            reduction=Reduction(order=0, instead={0.5: 0.25}),
            kept_by_presets=True,
        ),
    ] = 0.0
"""
"""Put into the class that declares all parameters, at its end."""

SCRIPT = """
import io, json
from contextlib import redirect_stdout, suppress
from pathlib import Path
import mlx.nn as nn
import mlx.optimizers as optim
from mlxft import recipe as recipes
from mlxft.advice.fit import reductions
from mlxft.compute.training import checkpoint
from mlxft.compute.training.step import AccumulatedGradients
from mlxft.errors import RunError
from mlxft.recipe.mlx_lm_command import mlx_lm_command
from mlxft.recipe.presets import PRESETS, applied
from mlxft.recipe.reference import reference
from mlxft.runs.directory import RunDirectory
from mlxft_tui.cli.main import main
from mlxft_tui.recipe.form import ROWS, unit_of
from mlxft_tui.recipe.notes import parameter_note

KEY = "label_smoothing"
recipe = recipes.apply_settings(recipes.Recipe(), [KEY + "=0.5"])
file = Path("recipe.yaml")
recipes.save(recipe, file)

run = RunDirectory(Path("run"))
run.checkpoints.mkdir(parents=True)
model, optimizer = nn.Linear(1, 1), optim.SGD(0.1)
optimizer.init(model.trainable_parameters())
state, waiting = checkpoint.TrainingState(step=1), AccumulatedGradients({}, 0)
checkpoint.save(
    run, recipe, state, model=model, optimizer=optimizer, accumulated=waiting
)
refusal = ""
try:
    checkpoint.newest(run, recipes.Recipe())
except RunError as error:
    refusal = str(error)

with redirect_stdout(io.StringIO()) as shown, suppress(SystemExit):
    main(["train", "--help"])
row = next(row.parameter for row in ROWS if row.parameter and row.parameter.key == KEY)
note = parameter_note(row, [], "").plain
print(json.dumps({
    "form": "Share of the target" in note and "less confident" in note,
    "form's meanings": unit_of(row, "0", recipe) == "no smoothing",
    "form's steps": recipes.get(recipes.step(recipe, KEY, 1), KEY) == 0.55,
    "--set": recipes.get(recipe, KEY) == 0.5,
    "train --help": KEY + " (a number from 0 to 0.9; default 0.0)" in shown.getvalue(),
    "YAML": KEY + ": 0.5" in file.read_text() and recipes.load(file) == recipe,
    "reference page": "### `" + KEY + "`" in reference(),
    "resume policy": KEY + " 0.5 → 0.0" in refusal,
    "token figures": recipes.token_settings(recipe)[KEY] == 0.5,
    "mlx_lm command": "--label-smoothing 0.5" in mlx_lm_command(recipe),
    "presets": recipes.get(applied(PRESETS[0], recipe), KEY) == 0.5,
    "fit": next(reductions(recipe)) == (KEY, 0.25),
}))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bool]:
    """Where a copy of the project with one more parameter has it."""
    copy = tmp_path_factory.mktemp("project")
    for folder in ("core", "tui"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    declarations = copy / "core/mlxft/recipe/training_parameters.py"
    declarations.write_text(declarations.read_text() + DECLARATION)
    environment = {**os.environ, "PYTHONPATH": f"{copy / 'core'}{os.pathsep}{copy / 'tui'}"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=copy, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    places: dict[str, bool] = json.loads(done.stdout)
    return places


def test_a_declared_parameter_is_everywhere(found: dict[str, bool]) -> None:
    assert len(found) == 12
    assert [place for place, holds in found.items() if not holds] == []
