"""A sweep that is started and left alone: does it finish by itself, and is its report right?

``mlxft-tui sweep`` puts a grid of 12 runs on the queue, then nothing is called until the queue is
empty. The report is compared with the runs' journals, which are read here line by line. ``--model
demo`` trains SmolLM2-135M on the sample data, by default a tiny random model on a few records.
``--json`` prints one line: `points`, `finished`, `right` figures, `figures` compared, `seconds`.
``--halving`` adds the same grid with successive halving: its share of the `halved_steps`, and
whether it finds the `same_best` point with the `same_loss`. ``--search 12`` has a random and a TPE
search with as many runs instead, for each of ``--seeds``: the lowest validation losses found.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
os.environ["PYTHONPATH"] = os.pathsep.join(each for each in sys.path if each)

from figures import own_folders
from mlxft import recipe as recipes
from mlxft.queue.store import own_store
from mlxft.storage.paths import sample_data
from support.project import Project, eventually, make_project
from support.queued_runs import end_queue

GRID = """\
name: twelve
grid:
  learning_rate: {from: 5e-5, to: 4e-3, count: 4, scale: log}
  lora_parameters.rank: [4, 8, 16]
"""
SEARCH = """\
name: {method}-{seed}
space:
  learning_rate: {{from: 1e-6, to: 3e-2, scale: log}}
  lora_parameters.rank: {{from: 2, to: 16, scale: log}}
search: {{method: {method}, runs: {runs}, seed: {seed}}}
"""
SETTINGS = (
    "iters={}",
    "val_batches=4",
    "steps_per_eval=1000",
    "steps_per_report=5",
    "batch_size=2",
)


def command(folder: Path, *words: str) -> str:
    """What a command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "mlxft_tui.cli", *words],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def of_journal(file: Path) -> dict[str, Any]:
    """The figures of a report, from the lines of a journal."""
    events = [json.loads(each) for each in file.read_bytes().splitlines()]
    validations = [each for each in events if each["event"] == "validation_finished"]
    best = min((each for each in validations if each["step"]), key=lambda each: each["loss"])
    end = events[-1]
    return {
        "steps": max(each["step"] for each in events if each["event"] == "step_finished"),
        "train_loss": [each["loss"] for each in events if each["event"] == "train_reported"][-1],
        "baseline_loss": next(each["loss"] for each in validations if not each["step"]),
        "best_validation_loss": best["loss"],
        "best_validation_step": best["step"],
        "tokens_per_second": end["tokens_per_second"],
        "peak_memory": end["peak_memory"] or None,
        "seconds": end["seconds"],
    }


def left_alone(project: Project, sweep: str) -> tuple[list[dict[str, Any]], float]:
    """Start a sweep and wait until the queue is empty; its report's points, and the seconds."""
    (project.folder / "grid.yaml").write_text(sweep)
    started = time.monotonic()
    command(project.folder, "sweep", "grid.yaml")
    eventually(lambda: not own_store().read().has_work, 3000)
    seconds = time.monotonic() - started
    report: dict[str, Any] = json.loads(command(project.folder, "sweep-report", "--json"))
    return report["points"], seconds


def compared(project: Project, points: list[dict[str, Any]]) -> dict[str, Any]:
    """The report's points against the journals."""
    count = right = 0
    for each in points:
        expected = of_journal(project.folder / "adapters" / each["run"] / "events.jsonl")
        count += len(expected)
        right += sum(each[name] == value for name, value in expected.items())
    losses = [each["best_validation_loss"] for each in points]
    assert losses == sorted(losses)
    assert all(map(math.isfinite, losses))
    finished = sum(each["state"] == "finished" for each in points)
    return {"points": len(points), "finished": finished, "figures": count, "right": right}


def make(folder: Path, model: str, iters: int) -> Project:
    """A project with the recipe of the sweep."""
    project = make_project(folder / "project")
    recipe = project.recipe
    if model == "demo":
        recipe = recipes.apply_settings(recipe, ["model=demo", f"data={sample_data()}"])
    settings = [each.format(iters) for each in SETTINGS]
    recipes.save(recipes.apply_settings(recipe, settings), project.folder / "recipe.yaml")
    return project


def measured(project: Project, iters: int, *, halving: bool) -> dict[str, Any]:
    """The whole grid, and the same one with halving."""
    points, seconds = left_alone(project, GRID)
    found = {**compared(project, points), "seconds": round(seconds, 1)}
    if halving:
        rule = f"halving: {{first: {iters // 4}}}\n"
        kept, seconds = left_alone(project, GRID.replace("twelve", "halved") + rule)
        steps, whole = (sum(each["steps"] for each in of) for of in (kept, points))
        best, other = kept[0], points[0]
        found |= {
            "halved_steps": steps / whole,
            "halved_seconds": round(seconds, 1),
            "halved_right": compared(project, kept)["right"],
            "same_best": best["values"] == other["values"],
            "same_loss": best["best_validation_loss"] == other["best_validation_loss"],
        }
    return found


def searched(project: Project, runs: int, seeds: int) -> dict[str, Any]:
    """What both methods find with the same budget."""
    found: dict[str, Any] = {"points": 0, "finished": 0, "figures": 0, "right": 0}
    for method in ("random", "tpe"):
        best = list[float]()
        for seed in range(seeds):
            sweep = SEARCH.format(method=method, runs=runs, seed=seed)
            points, _ = left_alone(project, sweep)
            for name, value in compared(project, points).items():
                found[name] += value
            best.append(round(points[0]["best_validation_loss"], 4))
        found |= {method: best, f"{method}_mean": round(sum(best) / len(best), 4)}
    return found


def main() -> None:
    """Exits with 1 if a run has not finished or a figure differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print only the line of JSON")
    parser.add_argument("--model", choices=("tiny", "demo"), default="tiny")
    parser.add_argument("--iters", type=int, default=96)
    parser.add_argument("--halving", action="store_true", help="the same grid with halving, too")
    parser.add_argument("--search", type=int, metavar="RUNS", help="random and TPE, not the grid")
    parser.add_argument("--seeds", type=int, default=2, help="of the searches (default: 2)")
    arguments = parser.parse_args()
    with own_folders(cache=False) as folder:
        try:
            project = make(folder, arguments.model, arguments.iters)
            if arguments.search:
                found = searched(project, arguments.search, arguments.seeds)
            else:
                found = measured(project, arguments.iters, halving=arguments.halving)
        finally:
            end_queue(own_store())
    print(json.dumps(found))
    is_right = found["finished"] == found["points"] and found["right"] == found["figures"]
    sys.exit(not (is_right and found.get("same_best", True)))


if __name__ == "__main__":
    main()
