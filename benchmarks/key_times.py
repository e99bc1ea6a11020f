"""Measure milliseconds from a key to its paint while a run of the demo model trains.

With ``--against`` another checkout of this project, with an environment in its ``.venv``, is
measured in turns with this one (A B B A …), each with its own engine and a viewer in a terminal of
120×40.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

RECIPE: Final = {
    "model": "demo",
    "batch_size": 2,
    "num_layers": 2,
    "iters": 100000,
    "max_seq_length": 64,
    "val_batches": 0,
    "save_every": 100000,
}
WARM_UP_STEPS: Final = 60
PAUSE_SECONDS: Final = 0.05
"""Between a paint and the next key, so that keys meet every part of the periodic redraws."""


@dataclass(frozen=True)
class Keys:
    """Keys of one screen, pressed in turn, and the part of the screen that each changes."""

    screen: str
    """The key that opens the screen, and a text on it."""
    ready: str
    pressed: str
    part: Callable[[list[str]], list[str]]


def _with(word: str) -> Callable[[list[str]], list[str]]:
    return lambda lines: [line for line in lines if word in line]


def _body(lines: list[str]) -> list[str]:
    return lines[3:]


SCREENS: Final = {
    "train": Keys("3", "ema", ".,", _with("ema")),
    "data": Keys("1", "record", "jk", _body),
    "recipe": Keys("2", "batch_size", "jk", _body),
    "chat": Keys("4", "Ask", "abcdefghijklmnopqrstuvwxyz", _body),
}


@dataclass
class Checkout:
    """A checkout's Python, and what was measured with it."""

    name: str
    python: Path
    milliseconds: list[list[float]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    def run(self, *arguments: str, folder: Path) -> None:
        """Run a command of the application, quietly."""
        command = [*self.command, *arguments]
        environment = {**os.environ, **self.environment}
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)

    @property
    def command(self) -> list[str]:
        return [str(self.python), "-m", "mlxft_tui.cli"]

    @property
    def environment(self) -> dict[str, str]:
        """Another checkout must not import this one."""
        own = self.python == Path(sys.executable)
        return {"PYTHONPATH": os.environ.get("PYTHONPATH", "") if own else ""}


@contextmanager
def training(checkout: Checkout, folder: Path) -> Iterator[Path]:
    """A run that trains until the end; yields its journal."""
    (folder / "data").mkdir(parents=True)
    lines = (
        json.dumps({"prompt": f"Say the number {n:03d} twice.", "completion": f"{n:03d} {n:03d}"})
        for n in range(400)
    )
    (folder / "data" / "train.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "recipe.yaml").write_text(json.dumps({**RECIPE, "data": "data"}))
    checkout.run("train", "recipe.yaml", "--detach", folder=folder)
    (journal,) = folder.glob("adapters/*/events.jsonl")
    try:
        while len(steps(journal)) < WARM_UP_STEPS:
            time.sleep(0.2)
        yield journal
    finally:
        checkout.run("stop", journal.parent.name, folder=folder)


def steps(journal: Path) -> list[dict[str, Any]]:
    """The finished steps of a run."""
    events = map(json.loads, journal.read_bytes().splitlines()[:-1])
    return [each for each in events if each["event"] == "step_finished"]


def press(terminal: Terminal, keys: Keys, count: int) -> list[float]:
    """Milliseconds from each key until what it changes is painted."""
    terminal.send(keys.screen)
    terminal.wait_for(keys.ready)
    time.sleep(2)
    times = []
    for number in range(count):
        before = keys.part(terminal.text.splitlines())
        terminal.send(keys.pressed[number % len(keys.pressed)])
        times.append(
            1000
            * terminal.wait(
                lambda before=before: keys.part(terminal.text.splitlines()) != before,  # type: ignore[misc]
                5,
            )
        )
        time.sleep(PAUSE_SECONDS)
    return times


def measure(checkout: Checkout, keys: Keys, count: int) -> None:
    """Add one measurement to the checkout's."""
    with tempfile.TemporaryDirectory(prefix="mlxft-", dir="/tmp") as name:
        os.environ["MLXFT_RUNTIME"] = f"{name}/run"
        with training(checkout, Path(name) / "keys") as journal:
            arguments = ["attach", journal.parent.name]
            with Terminal(
                [*checkout.command, *arguments], 120, 40, checkout.environment, Path(name) / "keys"
            ) as terminal:
                terminal.wait_for("RUNNING", 60)
                before = steps(journal)[-1]
                checkout.milliseconds.append(press(terminal, keys, count))
                done = [each for each in steps(journal) if each["time"] > before["time"]]
        tokens = sum(each["tokens"] for each in done)
        checkout.rates.append(tokens / (done[-1]["time"] - before["time"]))


def percentile(times: list[float], percent: int) -> float:
    return statistics.quantiles(times, n=100, method="inclusive")[percent - 1]


def main() -> None:
    """Print the percentiles of each measurement, and of all together."""
    # What comes from the terminal is read while another thread draws it.
    sys.setswitchinterval(0.0005)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, metavar="DIR", help="another checkout")
    parser.add_argument("--screen", choices=SCREENS, default="train", help="whose keys to press")
    parser.add_argument("--pairs", type=int, default=3, help="measurements of each checkout")
    parser.add_argument("--presses", type=int, default=300, help="keys per measurement")
    options = parser.parse_args()
    checkouts = [Checkout("this", Path(sys.executable))]
    if options.against:
        python = options.against.resolve() / ".venv/bin/python"
        checkouts.insert(0, Checkout(str(options.against), python))
    for number in range(options.pairs):
        for checkout in checkouts if number % 2 == 0 else checkouts[::-1]:
            measure(checkout, SCREENS[options.screen], options.presses)
            print(_line(checkout.name, checkout.milliseconds[-1], checkout.rates[-1]), flush=True)
    for checkout in checkouts:
        together = [each for times in checkout.milliseconds for each in times]
        print(_line(f"all {checkout.name}", together, statistics.mean(checkout.rates)))


def _line(name: str, times: list[float], rate: float) -> str:
    p50, p90, p99 = (percentile(times, percent) for percent in (50, 90, 99))
    figures = f"p50 {p50:5.1f}  p90 {p90:5.1f}  p99 {p99:5.1f}  max {max(times):5.1f} ms"
    return f"{name:20} {figures}  {rate:6.1f} tokens/s"


if __name__ == "__main__":
    main()
