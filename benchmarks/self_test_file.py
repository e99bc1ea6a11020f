"""What a self-test's file teaches the estimator: each peak's error before and after.

``self_test_file.py FILE`` reads what ``mlxft-tui doctor --self-test`` writes, on any machine. No
model's peaks correct its own estimates. ``--rows FILE`` judges on the points of
benchmarks/peaks/*.json, none of which has a model of the self-test; ``--planted SHARE`` scales all
activations that the estimator counts, as a wrong estimator would. ``--json`` prints one line:
`before` and `after` with points, median_error, worst_error and worst_under as fractions of the
measured peak, of the rows or else of the file's own peaks; `corrections`; `errors` of each point.
``--keep`` adds the peaks to those that correct this machine's estimates, which makes sense for a
machine of the same kind only.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec

from estimator_points import Point
from mlxft.memory.blocks import Block
from mlxft.memory.calibration import (
    MeasuredPeak,
    calibration_for,
    corrected_estimate,
    learned_from,
    remember,
)
from mlxft.memory.estimator import estimate
from mlxft.memory.shapes import ModelShapes
from mlxft.self_test.calibration import Calibrated, calibrated, corrected_parts, summary


def main() -> None:
    """Print the errors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--rows", type=Path, help="judge on these measured points")
    parser.add_argument("--planted", type=float, help="a share of all activations to count")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--keep", action="store_true", help="keep the peaks on this machine")
    arguments = parser.parse_args()
    found = json.loads(arguments.file.read_text())
    peaks = msgspec.convert(found["peaks"], list[MeasuredPeak])
    if arguments.keep:
        for each in peaks:
            remember(each)
    with counting(arguments.planted or 1.0):
        rows = json.loads(arguments.rows.read_text()) if arguments.rows else None
        errors = calibrated(peaks) if rows is None else list(judged(rows, peaks))
        words, lesson = corrected_parts(peaks), learned_from(peaks)
    if not arguments.json:
        for error in errors:
            print(f"{error.run:90} {error.before:+7.1%} → {error.after:+7.1%}")
        print(f"{words}\n{summary(errors)}")
        return
    result = {
        "device": found["device"],
        "before": figures([each.before for each in errors]),
        "after": figures([each.after for each in errors]),
        "corrections": lesson.corrections.parts,
        "errors": [msgspec.to_builtins(each) for each in errors],
    }
    print(json.dumps(result))


def judged(rows: Sequence[dict[str, Any]], peaks: Sequence[MeasuredPeak]) -> Iterator[Calibrated]:
    """Each measured point's error, plain and corrected by the self-test's peaks."""
    for row in rows:
        point = Point(row["config"], row["length"], row["settings"], row["bits"])
        config = point.model_config("float32" if row["kind"] == "cpu" else "bfloat16")
        shapes, longest = ModelShapes.from_config(config), point.length + 1
        calibration = calibration_for(shapes, row["kind"], peaks[0].mlx, peaks)
        plain = estimate(shapes, point.recipe, row["kind"], None, longest)
        after = corrected_estimate(
            shapes, point.recipe, row["kind"], None, longest=longest, calibration=calibration
        )
        settings = " ".join(f"{key}={value}" for key, value in row["settings"].items())
        name = f"{row['config']} {row['length']} {settings}"
        yield Calibrated(name, plain.peak / row["peak"] - 1, after.peak / row["peak"] - 1)


def figures(errors: Sequence[float]) -> dict[str, float]:
    """The errors of some estimates; too low is negative."""
    sizes = [abs(each) for each in errors]
    return {
        "points": len(errors),
        "median_error": statistics.median(sizes),
        "mean_error": statistics.fmean(sizes),
        "worst_error": max(sizes),
        "worst_under": min(0.0, *errors),
    }


@contextmanager
def counting(share: float) -> Iterator[None]:
    """Count this share of the values that blocks keep."""
    read = ModelShapes.from_config

    def planted(config: Any) -> ModelShapes:
        shapes = read(config)
        return replace(shapes, blocks=tuple(_scaled(each, share) for each in shapes.blocks))

    with patch.object(ModelShapes, "from_config", planted):
        yield


def _scaled(block: Block, share: float) -> Block:
    return replace(block, width=round(share * block.width), on_cpu=round(share * block.on_cpu))


if __name__ == "__main__":
    main()
