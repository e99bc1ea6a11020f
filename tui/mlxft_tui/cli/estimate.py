"""`mlxft-tui estimate`: a recipe's memory and time on this machine, or its memory on another."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from mlxft import recipe as recipes
from mlxft.data.split_files import split_file
from mlxft.errors import RecipeError
from mlxft.hosts import rank_count
from mlxft.memory.calibrated import CalibratedEstimator, load_calibration
from mlxft.memory.confidence import Assumptions, confidence
from mlxft.memory.local_config import local_config
from mlxft.recipe import Recipe
from mlxft.runs.events import BackendReady
from mlxft.text import figures
from mlxft.text.printable import printable_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlxft.duration.expectation import Expectation
    from mlxft.memory.estimator import MemoryEstimate
    from mlxft.memory.fitted import BackendKind
    from mlxft.runs.followed import FollowedRun
    from mlxft_tui.session import Session

GB = 10**9

LABELS: Final = {"base": "process"}
"""Parts printed under another name than in JSON."""


def estimate_recipe(
    recipe: Recipe, model: str | None, device: str | None
) -> tuple[MemoryEstimate, Assumptions]:
    """A recipe's memory on this machine or on `device`, and what the estimate is based on.

    `model` is a folder with a config.json, used in place of the recipe's model. Raises
    `ModelError` if there is no config.json, and `RecipeError` for an invalid device.
    """
    from mlxft.memory.shapes import ModelShapes
    from mlxft.telemetry.limits import machine_memory

    wanted = model or recipe.model
    if not wanted:
        raise RecipeError("The recipe names no model; add one, or --model DIR.")
    shapes = ModelShapes.from_config(local_config(wanted))
    if device is not None:
        kind, limit = _device(device)
        estimator = CalibratedEstimator(shapes, kind, limit)
    else:
        machine = machine_memory()
        calibration = load_calibration(shapes, machine.kind)
        estimator = CalibratedEstimator(
            shapes, machine.kind, machine.limit, calibration=calibration
        )
    assumptions = Assumptions(
        kind=estimator.kind,
        calibration=estimator.calibration,
        attention=estimator.attention(recipe),
        row=recipe.max_seq_length,
        ranks=rank_count(recipe.hosts),
    )
    return estimator.estimate(recipe), assumptions


def expected_time(
    session: Session, recipe: Recipe, model: str | None, device: str | None
) -> Expectation | None:
    """How long a run takes on this machine, from the project's runs or else from its chip.

    None for another `device`, and where neither is known. Raises `ModelError`.
    """
    from mlxft.data.index import records_in
    from mlxft.duration.expectation import expect, past_runs, rows_of_files
    from mlxft.memory.shapes import ModelShapes

    if device is not None:
        return None
    recipe = recipes.replace(recipe, "model", model or recipe.model)
    runs = session.history.poll() or ()
    files = [split_file(session.data(recipe), split) for split in ("train", "valid")]
    train, valid = (records_in(each) if each.is_file() else 0 for each in files)
    shapes = ModelShapes.from_config(local_config(recipe.model))
    rows = rows_of_files(recipe, train, valid)
    return expect(recipe, past_runs(runs), shapes, backend_of(runs), rows)


def backend_of(runs: Iterable[FollowedRun]) -> BackendReady | None:
    """The device as the latest run found it, or an Apple chip by its name."""
    from mlxft.telemetry.limits import machine_memory
    from mlxft.telemetry.sampler import Sampler

    kind = machine_memory().kind
    seen = (run.view.backend for run in runs)
    known = next((each for each in seen if each is not None and each.kind == kind), None)
    if known is not None or kind != "metal":
        return known
    name = Sampler().sample().gpu_name
    return BackendReady(device=name, kind=kind) if name else None


def print_estimate(
    estimate: MemoryEstimate,
    assumptions: Assumptions,
    time: Expectation | None,
    *,
    as_json: bool,
) -> int:
    """Print parts, total, limit, verdict and time; returns 1 if the recipe will not fit."""
    attention = assumptions.attention
    if as_json:
        figures_of = {
            **estimate.parts,
            "total": estimate.total,
            "limit": estimate.limit,
            "total_if_scores_are_kept": attention.otherwise if attention else None,
            "verdict": estimate.verdict,
            "seconds": time.seconds if time else None,
            "seconds_spread": time.spread if time else None,
        }
        print(json.dumps(figures_of))
    else:
        for name, size in estimate.parts.items():
            print(f"{LABELS.get(name, name):12} {figures.gigabytes(size):>7} GB")
        limit = f" of {figures.gigabytes(estimate.limit)} GB" if estimate.limit else ""
        print(f"{'total':12} {figures.gigabytes(estimate.total):>7} GB{limit}")
        alone = f"{figures.gigabytes(estimate.peak):>7} GB (as shown on Train)"
        print(f"{'MLX alone':12} {alone}")
        if assumptions.processes:
            print(f"{'processes':12} {assumptions.processes}")
        print(f"{'rows':12} {_rows(assumptions)}")
        if attention:
            print(f"{'attention':12} {attention.line}")
        print(f"{'verdict':12} {_VERDICTS[estimate.verdict]}")
        print(f"{'confidence':12} {confidence(estimate, assumptions)}")
        print(f"{'time':12} {_time(time)}")
    return 1 if estimate.verdict == "wont_fit" else 0


def _time(time: Expectation | None) -> str:
    if time is None:
        return "unknown until a run of this model has been trained here"
    least, most = time.seconds / time.spread, time.seconds * time.spread
    span = f"{figures.duration(least)} to {figures.duration(most)}, " if time.spread > 1.2 else ""
    return f"{figures.duration(time.seconds)} ({span}{printable_line(time.source)})"


def _rows(assumptions: Assumptions) -> str:
    row = f"up to {figures.count(assumptions.row)} tokens" if assumptions.row else "of any length"
    return f"{row} (max_seq_length); the app uses your longest record"


_VERDICTS = {
    "fits": "fits",
    "may_fit": "may fit: nothing is known about this model's family",
    "tight": "tight: fits with little to spare",
    "wont_fit": "will not fit",
    "unknown": "the device's memory limit is unknown",
}


def _device(text: str) -> tuple[BackendKind, int | None]:
    """Parse ``metal:36GB``, ``cuda:80GB``, ``cpu`` or ``cpu:16GB``.

    Metal's limit is the share of memory that macOS grants a GPU. Raises `RecipeError`.
    """
    from mlxft.telemetry.limits import GIB, default_working_set, machine_memory

    found = re.fullmatch(r"(metal|cuda|cpu)(?::(\d+(?:\.\d+)?)(?:GB?)?)?", text.strip(), re.I)
    if found is None:
        raise RecipeError(
            f"--device {text} is not a device; write it as metal:36GB, cuda:80GB or cpu."
        )
    name, size = found[1].lower(), found[2]
    if name == "metal":
        return "metal", default_working_set(round(float(size) * GIB)) if size else None
    if name == "cuda":
        return "cuda", round(float(size) * GB) if size else None
    return "cpu", round(float(size) * GB) if size else machine_memory().total
