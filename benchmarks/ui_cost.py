"""Measure the cost of watching a run: key to paint, and throughput with and without viewers.

A run of the demo model trains throughout, on records of one length. Two viewers are attached and
detached in turn (A B B A), so that drift of the machine's speed cancels out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from figures import print_figures
from mlxft import recipe as recipes
from mlxft.engine.client import EngineClient
from mlxft.engine.launch import launch_training
from mlxft.engine.protocol import Stop
from mlxft.recipe import Recipe
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory, create
from mlxft.runs.journal import JournalReader
from support.terminal import Terminal
from support.training import RunEndedError, wait_for_first_step

APP = [sys.executable, "-m", "mlxft_tui.cli"]
SETTINGS = [
    "model=demo",
    "batch_size=2",
    "num_layers=2",
    "iters=100000",
    "max_seq_length=64",
    "val_batches=0",
    "save_every=100000",
]


@dataclass
class Stretch:
    """Tokens trained and the seconds they took, with viewers or without."""

    tokens: float = 0.0
    seconds: float = 0.0
    speeds: list[float] = field(default_factory=list)

    def add(self, steps: list[ev.StepFinished]) -> None:
        """Count whole steps between the first and the last report."""
        tokens = sum(step.tokens for step in steps[1:])
        seconds = steps[-1].time - steps[0].time
        self.tokens += tokens
        self.seconds += seconds
        self.speeds.append(tokens / seconds)


def write_records(folder: Path) -> None:
    """Records of one length, so that each step costs the same."""
    folder.mkdir()
    lines = (
        json.dumps({"prompt": f"Say the number {n:03d} twice.", "completion": f"{n:03d} {n:03d}"})
        for n in range(400)
    )
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n")


def steps_for(reader: JournalReader, seconds: float) -> list[ev.StepFinished]:
    """The steps finished from now on, for some seconds."""
    reader.read()
    time.sleep(seconds)
    return [each for each in reader.read() if isinstance(each, ev.StepFinished)]


def watched(run: RunDirectory, environment: dict[str, str]) -> Terminal:
    """A viewer of the run in its own terminal, painted and idle."""
    command = [*APP, "attach", str(run.path)]
    terminal = Terminal(command, 120, 40, environment, run.path.parents[1])
    terminal.wait_for("RUNNING", 60)
    return terminal


def key_times(terminal: Terminal, presses: int) -> list[float]:
    """Milliseconds from each press of a smoothing key until its new value is on screen."""
    times = []
    for press in range(presses):
        before = terminal.text.splitlines()
        terminal.send("," if press % 2 else ".")
        values = {line for line in before if "ema" in line}
        times.append(
            1000
            * terminal.wait(
                lambda seen=values: not seen & set(terminal.text.splitlines()),  # type: ignore[misc]
                5,
            )
        )
        time.sleep(0.05)
    return times


def first_paint(folder: Path, runs: int) -> float:
    """Median seconds from the command until the terminal shows the first screen."""
    times = []
    for _ in range(runs):
        with Terminal([*APP, str(folder)], 120, 40) as terminal:
            terminal.wait_for("Data")
            times.append(time.monotonic() - terminal.started)
    return statistics.median(times)


def measure(folder: Path, stretches: int, seconds: float, presses: int) -> dict[str, float]:
    """Measure one run."""
    write_records(folder / "data")
    paint = first_paint(folder, 5)
    recipe = recipes.apply_settings(Recipe(data=str(folder / "data")), SETTINGS)
    run = create(folder / "adapters", recipe, "cost")
    launch_training(run)
    wait_for_first_step(run)
    reader = JournalReader(run.journal_file)
    alone, attached = Stretch(), Stretch()
    wrote = 0.0
    try:
        for number in range(stretches):
            for with_viewers in (False, True) if number % 2 == 0 else (True, False):
                if not with_viewers:
                    alone.add(steps_for(reader, seconds))
                    continue
                with watched(run, {}) as terminal, watched(run, {}):
                    time.sleep(2)
                    before = len(terminal.output)
                    attached.add(steps_for(reader, seconds))
                    wrote += len(terminal.output) - before
        with watched(run, {}) as terminal:
            time.sleep(2)
            keys = key_times(terminal, presses)
    finally:
        stop(run)
    return {
        "key_p50_ms": round(statistics.median(keys), 1),
        "key_p99_ms": round(statistics.quantiles(keys, n=100)[98], 1),
        "throughput_ratio": round(
            statistics.median(b / a for a, b in zip(alone.speeds, attached.speeds, strict=True)),
            4,
        ),
        "throughput_ratio_total": round(
            (attached.tokens / attached.seconds) / (alone.tokens / alone.seconds), 4
        ),
        "tokens_per_second_alone": round(alone.tokens / alone.seconds, 1),
        "tokens_per_second_attached": round(attached.tokens / attached.seconds, 1),
        "bytes_per_second": round(wrote / (stretches * seconds)),
        "first_paint_s": round(paint, 3),
    }


def stop(run: RunDirectory) -> None:
    """End the run and wait until its engine has exited."""
    import asyncio

    async def ask() -> None:
        client = await EngineClient.connect(run.socket_file)
        await client.send(Stop())
        await client.close()

    asyncio.run(ask())
    while run.is_live():
        time.sleep(0.2)


def main() -> None:
    """Print the figures, as one JSON line with ``--json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    parser.add_argument("--stretches", type=int, default=6, help="pairs with and without viewers")
    parser.add_argument("--seconds", type=float, default=15.0, help="length of each stretch")
    parser.add_argument("--presses", type=int, default=300, help="keys pressed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mlxft-", dir="/tmp") as folder:
        os.environ["MLXFT_RUNTIME"] = f"{folder}/run"
        os.environ["MLXFT_STATE"] = f"{folder}/state"
        try:
            figures = measure(Path(folder), options.stretches, options.seconds, options.presses)
        except RunEndedError as error:
            sys.exit(f"The run has ended before its first step: {error}")
    print_figures(figures, as_json=options.json)


if __name__ == "__main__":
    main()
