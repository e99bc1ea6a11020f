"""How fast the table of a project with many runs opens, and answers a sort or a filter.

    python benchmarks/runs_table.py --json
    python benchmarks/runs_table.py --runs 2000 --steps 1000

Makes the runs in a temporary folder. ``cold_s`` is the first opening, which reads every journal;
``cold_shown_s`` when it shows the newest runs; ``warm_s`` the next opening by another process, with
the summaries kept; ``poll_ms`` a poll in which nothing has changed; ``grown_ms`` one after a step
of a run that trains. ``filter_ms`` and ``sort_ms`` are 99th percentiles over all columns.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from mlxft import recipe as recipes
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory
from mlxft.telemetry.sample import Sample

RECIPE: Final = recipes.from_mapping({"model": "mlx-community/Qwen3-0.6B-4bit", "iters": 1000})

OPENING: Final = """
import sys, time
begun = time.perf_counter()
from pathlib import Path
from mlxft.comparison.table import RunTable
imported = time.perf_counter()
table = RunTable(Path(sys.argv[1]))
rows = table.poll(patience=float(sys.argv[2]))
print(len(rows), imported - begun, time.perf_counter() - imported)
"""

FILTERS: Final = (
    "best_validation_loss < 1.2 and model ~ qwen and not archived",
    "tag:good or (learning_rate >= 1e-4 and state = finished)",
    'rank = 8 and started > -30d and "run"',
)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=2000)
    options.add_argument("--steps", type=int, default=1000)
    options.add_argument("--json", action="store_true")
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLXFT_CACHE"] = f"{folder}/cache"
        root = Path(folder) / "adapters"
        size = make(root, arguments.runs, arguments.steps)
        result = {"runs": arguments.runs, "steps": arguments.steps, "journals_mb": size / 1e6}
        result |= measured(root)
    if arguments.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:14} {value:.4g}")


def make(root: Path, runs: int, steps: int) -> int:
    """Write runs with a finished journal each; returns the bytes of all journals."""
    chance, size = random.Random(3), 0
    body = [ev.encode(event) for event in journal(steps, chance)]
    for number in range(runs):
        run = RunDirectory(root / f"run-{number + 1}")
        run.path.mkdir(parents=True)
        recipe = recipes.replace(RECIPE, "learning_rate", 10 ** chance.uniform(-5, -3))
        recipe = recipes.replace(recipe, "seed", number)
        run.recipe_file.write_text("model: x\n")
        started = ev.RunStarted(
            time=1.7e9 + number,
            run=run.name,
            pid=1,
            host="mac",
            recipe=recipes.to_mapping(recipe),
            iters=steps,
            versions={"mlx": "0.32.4", "mlx-lm": "0.32.2"},
        )
        data = b"\n".join([ev.encode(started), *body, b""])
        run.journal_file.write_bytes(data)
        size += len(data)
    return size


def journal(steps: int, chance: random.Random) -> Iterator[ev.AnyEvent]:
    """A run's events as an engine writes them, without the first."""
    yield ev.BackendReady(device="Apple M3 Pro", kind="metal", memory_limit=28 * 10**9)
    for step in range(1, steps + 1):
        loss = 0.3 + 2.2 * math.exp(-step / 200) + chance.gauss(0, 0.05)
        yield ev.StepFinished(
            step=step, loss=loss, tokens=512, seconds=0.4, learning_rate=1e-4, gradient_norm=0.8
        )
        if step % 5 == 0:
            sample = Sample(time=1.7e9, cpu_share=0.2, memory_used=14 * 10**9)
            yield ev.MachineSampled(sample=sample, peak_memory=2_300_000_000)
        if step % 10 == 0:
            yield ev.TrainReported(
                step=step,
                loss=loss,
                learning_rate=1e-4,
                steps_per_second=2.5,
                tokens_per_second=1280,
                trained_tokens=512 * step,
                peak_memory=2_300_000_000,
                active_memory=10**9,
                cache_memory=10**8,
            )
        if step % 100 == 0:
            yield ev.ValidationFinished(step=step, loss=loss, tokens=2200, seconds=3, best=True)
    yield ev.RunFinished(
        reason="completed",
        step=steps,
        first_loss=2.5,
        final_loss=0.3,
        best_validation_loss=0.4,
        best_validation_step=steps,
        tokens_per_second=1280,
        trained_tokens=512 * steps,
        peak_memory=2_300_000_000,
        seconds=0.4 * steps,
        adapter_path="adapters",
        since_step=0,
    )


def measured(root: Path) -> dict[str, float]:
    """Every time, each opening in a process of its own."""
    _, importing, shown = opened(root, patience=0.3)
    _, _, cold = opened(root)
    warm = [opened(root) for _ in range(5)]
    return {
        "cold_shown_s": importing + shown,
        "cold_s": importing + cold,
        "warm_s": statistics.median(importing + seconds for _, importing, seconds in warm),
        "warm_worst_s": max(importing + seconds for _, importing, seconds in warm),
        **answered(root),
    }


def opened(root: Path, patience: float = 1e9) -> tuple[int, float, float]:
    """Rows of a new process's table, its seconds of importing, and those of its first poll."""
    command = [sys.executable, "-c", OPENING, str(root), str(patience)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    rows, importing, seconds = done.stdout.split()
    return int(rows), float(importing), float(seconds)


def answered(root: Path) -> dict[str, float]:
    """Milliseconds of polls, filters and sorts of a table that is open."""
    from mlxft.comparison.columns import COLUMNS, Order, sorted_rows
    from mlxft.comparison.filters import parse_filter
    from mlxft.comparison.table import RunTable

    table = RunTable(root)
    rows = table.poll()
    assert rows is not None
    polls = [milliseconds(lambda: table.poll(rows)) for _ in range(20)]
    run = RunDirectory(root / "run-1")
    step = ev.encode(ev.StepFinished(step=9, loss=1, tokens=9, seconds=1, learning_rate=1e-4))
    grown = []
    for _ in range(20):
        with run.journal_file.open("ab") as file:
            file.write(step + b"\n")
        grown.append(milliseconds(lambda: table.poll(rows)))
    filters = [
        milliseconds(lambda text=text: list(filter(parse_filter(text), rows)))  # type: ignore[misc]
        for text in FILTERS * 30
    ]
    sorts = [
        milliseconds(lambda order=order: sorted_rows(rows, [order]))  # type: ignore[misc]
        for column in COLUMNS.values()
        for order in (Order(column), Order(column, descending=True))
    ]
    return {
        "poll_ms": statistics.median(polls),
        "grown_ms": statistics.median(grown),
        "filter_ms": p99(filters),
        "sort_ms": p99(sorts),
    }


def milliseconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - begun)


def p99(values: list[float]) -> float:
    return sorted(values)[max(0, math.ceil(0.99 * len(values)) - 1)]


if __name__ == "__main__":
    main()
