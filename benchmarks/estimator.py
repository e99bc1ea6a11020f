"""The memory estimate against measured peaks of this trainer's step.

Each point is a model with random weights, trained for three steps in its own process, since memory
kept alive would distort the next measurement. Half of the points of each kind are fitted on, the
others are held out. ``--json`` prints one line last: points, median_error, worst_error and
worst_under as fractions of the measured peak, for the held-out half; the fitted constants; and
every row. ``--rows FILE`` saves the measurements, ``--refit FILE`` fits on saved ones such as those
of benchmarks/peaks, and ``--judge FILE`` only compares.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from estimator_points import CPU_POINTS, GPU_POINTS, Point
from mlxft.engine.blas import blas_environment
from mlxft.memory.estimator import estimate
from mlxft.memory.fitted import CONSTANTS, BackendKind, Constants
from mlxft.memory.shapes import ModelShapes

STEPS = 3

RECORD: Final = 100
"""Tokens per record in packed rows."""

FITTED: Final = (
    "logits",
    "scores",
    "scores_checkpointed",
    "unfused",
    "scoring",
    "ahead",
    "ahead_checkpointed",
    "lag",
)
"""Constants fitted to the peaks; the others are not part of MLX's peak."""

FACTORS: Final = (0.5, 0.8, 0.9, 0.97, 1.03, 1.1, 1.25, 2.0)
"""Factors by which a constant is varied."""

ROUNDS: Final = 40

AIM: Final[dict[BackendKind, float]] = {"cpu": 1.0, "metal": 1.02, "cuda": 1.02}
"""Target share of the peak; a GPU's peak varies by some percent between runs."""

TOO_LITTLE: Final = 3.0
"""Weight of an estimate that is too low against one that is too high."""


def measure(point: Point) -> dict[str, Any]:
    """Train a few steps and return MLX's peak in bytes; needs a process of its own."""
    import mlx.core as mx
    import numpy as np

    from mlxft.compute import backend
    from mlxft.compute.measuring.random_models import attached
    from mlxft.compute.training.batches import batch_arrays
    from mlxft.compute.training.limits import clear_cache, training_limits
    from random_models import started

    dtype = "float32" if backend.kind() == "cpu" else "bfloat16"
    config, recipe = point.model_config(dtype), point.recipe
    loaded = attached(config, recipe)
    ready = started(loaded, recipe, point.length + 1)
    shape = (recipe.batch_size, point.length + 1)
    tokens = np.random.default_rng(0).integers(0, config["vocab_size"], shape, np.int32)
    segments = 1 + np.arange(shape[1]) // RECORD + np.zeros(shape, np.int32)
    packed = segments.astype(np.int32) if recipe.packing else None
    batch = batch_arrays(tokens, np.ones(shape, np.bool_), packed)
    mx.eval(loaded.model.parameters(), ready.optimizer.state, batch)
    mx.clear_cache()
    mx.reset_peak_memory()
    footprint = 0
    with training_limits(ready.run_ahead_limit):
        for step in range(1, STEPS * recipe.grad_accumulation_steps + 1):
            ready.stepper.add_gradient(step, batch)
            if step % recipe.grad_accumulation_steps == 0:
                ready.stepper.update(recipe.learning_rate)
            footprint = max(footprint, mx.get_active_memory() + mx.get_cache_memory())
            clear_cache(recipe.clear_cache_threshold)
    peak = mx.get_peak_memory()
    backend.close()
    return {"peak": peak, "footprint": footprint, "kind": backend.kind()}


def measured(point: Point) -> dict[str, Any]:
    """`measure` in a fresh process."""
    command = [sys.executable, __file__, "--point", json.dumps(asdict(point))]
    environment = {**os.environ, **blas_environment()}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def row(point: Point) -> dict[str, Any]:
    """A point with its measured peak."""
    return {**asdict(point), **measured(point)}


def estimated(row: dict[str, Any], constants: Constants | None = None) -> int:
    """The estimate of a row's peak, in bytes."""
    kind: BackendKind = row["kind"]
    point = Point(row["config"], row["length"], row["settings"], row["bits"])
    shapes = ModelShapes.from_config(point.model_config("float32" if kind == "cpu" else "bfloat16"))
    guess = estimate(shapes, point.recipe, kind, None, point.length + 1, constants=constants)
    return guess.peak


def halves(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows to fit on and the held-out ones, decided by the points alone.

    Every other point of a kind is fitted on, so that both halves have all kinds.
    """
    ordered = sorted(rows, key=_kind_of_point)
    return ordered[::2], ordered[1::2]


def _kind_of_point(row: dict[str, Any]) -> tuple[str, ...]:
    settings: dict[str, str] = row["settings"]
    kind = (settings.get(key, "") for key in ("packing", "fine_tune_type", "grad_checkpoint"))
    # The hash shuffles points of the same kind.
    point = [row[key] for key in ("config", "length", "settings", "bits")]
    digest = hashlib.sha256(json.dumps(point, sort_keys=True).encode()).hexdigest()
    return (*kind, row["config"], digest)


def fitted(rows: list[dict[str, Any]]) -> Constants:
    """The constants with the least error on these rows, by coordinate descent.

    Constants that are 0 for a backend stay 0.
    """
    best = CONSTANTS[rows[0]["kind"]]
    least = _misfit(rows, best)
    for _ in range(ROUNDS):
        before = least
        for name in [each for each in FITTED if getattr(best, each)]:
            for factor in FACTORS:
                value = getattr(best, name) * factor
                candidate = replace(best, **{name: round(value, 3)})
                if (misfit := _misfit(rows, candidate)) < least:
                    best, least = candidate, misfit
        if least == before:
            break
    return best


def _misfit(rows: list[dict[str, Any]], constants: Constants) -> float:
    """Squared errors; estimates that are too low weigh more."""
    errors = [estimated(each, constants) / each["peak"] - AIM[each["kind"]] for each in rows]
    weighed: list[float] = [error if error > 0 else TOO_LITTLE * error for error in errors]
    return math.fsum(each * each for each in weighed)


def with_errors(rows: list[dict[str, Any]], constants: Constants) -> list[dict[str, Any]]:
    """The rows with their estimate and its error as a fraction."""
    guesses = [estimated(each, constants) for each in rows]
    return [
        {**each, "estimate": guess, "error": guess / each["peak"] - 1}
        for each, guess in zip(rows, guesses, strict=True)
    ]


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The errors of the estimates; too low is negative."""
    errors = [each["error"] for each in rows]
    return {
        "points": len(rows),
        "median_error": statistics.median(abs(error) for error in errors),
        "worst_error": max(abs(error) for error in errors),
        "worst_under": min(0.0, *errors),
    }


def _show(row: dict[str, Any]) -> None:
    settings = " ".join(f"{key}={value}" for key, value in row["settings"].items())
    model = row["config"] + (f" {row['bits']}-bit" if row["bits"] else "")
    print(
        f"{model:14} {row['length']:5} {settings:62} "
        f"{row['peak'] / 1e9:7.3f} GB  {row['estimate'] / 1e9:7.3f} GB  {row['error']:+.1%}",
        flush=True,
    )


def main() -> None:
    """Measure this machine's points, fit on one half, and compare on the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one line of JSON with every row")
    parser.add_argument("--device-grid", action="store_true", help="the points for a GPU")
    parser.add_argument("--only", default="", help="only points of this model")
    parser.add_argument(
        "--longest", type=int, default=sys.maxsize, help="tokens of a point at most"
    )
    parser.add_argument("--shortest", type=int, default=0, help="of a point, in tokens")
    parser.add_argument("--packed-only", action="store_true", help="only packed rows")
    parser.add_argument("--jobs", type=int, default=1, help="points measured at once")
    parser.add_argument("--rows", type=Path, help="save the measurements to this file")
    parser.add_argument("--refit", type=Path, help="fit on measurements of this file")
    parser.add_argument("--judge", type=Path, help="only compare measurements of this file")
    parser.add_argument("--no-fit", action="store_true", help="measure and only compare")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.point:
        import_module("mlxft.compute.backend")  # loads a fast BLAS, which must come before mlx
        print(json.dumps(measure(Point(**json.loads(arguments.point)))))
        return
    if arguments.judge or arguments.no_fit:
        given = arguments.judge
        rows = json.loads(given.read_text()) if given else _measured_rows(arguments)
        rows = with_errors(rows, CONSTANTS[rows[0]["kind"]])
        for each in rows:
            _show(each)
        print(json.dumps(summary(rows)))
        return
    rows = json.loads(arguments.refit.read_text()) if arguments.refit else _measured_rows(arguments)
    fit_on, judged = halves(rows)
    constants = fitted(fit_on)
    rows = with_errors(rows, constants)
    _, judged = halves(rows)
    result = {**summary(judged), "all_points": len(rows), "constants": asdict(constants)}
    if not arguments.json:
        for each in rows:
            _show(each)
    print(json.dumps({**result, "rows": rows} if arguments.json else result))


def _measured_rows(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    points = GPU_POINTS if arguments.device_grid else CPU_POINTS
    wanted = [
        each
        for each in points
        if arguments.only in ("", each.config)
        and arguments.shortest <= each.length <= arguments.longest
        and (not arguments.packed_only or each.recipe.packing)
    ]
    rows: list[dict[str, Any]] = []
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for done in as_completed([pool.submit(row, each) for each in wanted]):
            rows.append(done.result())
            print(f"{len(rows)} of {len(wanted)}", file=sys.stderr, flush=True)
            if arguments.rows:
                arguments.rows.write_text(json.dumps(rows))
    return rows


if __name__ == "__main__":
    main()
