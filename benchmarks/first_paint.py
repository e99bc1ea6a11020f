"""Measure the first paint: seconds from exec until 1,500 bytes have arrived on a pty.

Alternates between the application and a hello-world Textual app, so that drift of the machine's
speed cancels out. The application opens a folder with data, a recipe and a finished run, and an
empty folder.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from mlxft.paths import sample_data
from mlxft.recipe import Recipe
from mlxft.recipe.files import save
from support.scripted import finished, training, write_run
from support.terminal import Terminal

PAINTED_BYTES = 1500
"""Output after which the first screen counts as painted."""

HELLO = """
from textual.app import App
from textual.widgets import Static

class Hello(App):
    def compose(self):
        yield Static("Hello, world!")

Hello().run()
"""


@dataclass(frozen=True)
class Start:
    """One start of a program: wall seconds until the first paint, and CPU seconds until then."""

    seconds: float
    cpu_seconds: float


def start(command: Sequence[str], folder: Path) -> Start:
    """Start a program in a 120×40 terminal and kill it once it has painted."""
    with Terminal(command, 120, 40, folder=folder) as terminal:
        terminal.wait(lambda: len(terminal.output) >= PAINTED_BYTES, 60)
        cpu_seconds = _cpu_seconds(terminal.process.pid)
        sizes = accumulate(len(chunk.data) for chunk in terminal.chunks)
        painted = next(
            chunk.time
            for chunk, size in zip(terminal.chunks, sizes, strict=False)
            if size >= PAINTED_BYTES
        )
        return Start(painted - terminal.started, cpu_seconds)


def _cpu_seconds(pid: int) -> float:
    import psutil

    used = psutil.Process(pid).cpu_times()
    return used.user + used.system


def make_project(folder: Path) -> Path:
    """A folder with data, a recipe and a finished run."""
    folder.mkdir()
    recipe = Recipe(model="models/demo", data=str(sample_data()))
    save(recipe, folder / "recipe.yaml")
    write_run(folder / "adapters", recipe, [*training(recipe, 400), finished(400)])
    return folder


def measure(starts: int) -> dict[str, float]:
    """Medians over alternating starts, after one of each to warm the caches."""
    with tempfile.TemporaryDirectory(prefix="mlxft-", dir="/tmp") as root:
        os.environ.update(
            {f"XDG_{kind}_HOME": f"{root}/{kind.lower()}" for kind in ("CACHE", "DATA", "CONFIG")}
        )
        hello = Path(root, "hello.py")
        hello.write_text(HELLO)
        project, empty = make_project(Path(root, "project")), Path(root, "empty")
        empty.mkdir()
        app = [sys.executable, "-m", "mlxft_tui.cli"]
        turns = {
            "ours": ([*app, str(project)], project),
            "hello": ([sys.executable, str(hello)], empty),
            "empty": ([*app, str(empty)], empty),
        }
        for turn in turns.values():
            start(*turn)
        found: dict[str, list[Start]] = {name: [] for name in turns}
        for number in range(starts):
            order = list(turns) if number % 2 else list(reversed(turns))
            for name in order:
                found[name].append(start(*turns[name]))
        version = [_command_seconds([*app, "--version"]) for _ in range(starts)]
    medians = {
        name: statistics.median(each.seconds for each in each_start)
        for name, each_start in found.items()
    }
    cpu = {
        name: statistics.median(each.cpu_seconds for each in each_start)
        for name, each_start in found.items()
    }
    return {
        "ours_s": round(medians["ours"], 3),
        "ours_empty_s": round(medians["empty"], 3),
        "hello_s": round(medians["hello"], 3),
        "ratio": round(medians["ours"] / medians["hello"], 3),
        "ratio_empty": round(medians["empty"] / medians["hello"], 3),
        "ours_cpu_s": round(cpu["ours"], 3),
        "hello_cpu_s": round(cpu["hello"], 3),
        "version_s": round(statistics.median(version), 3),
    }


def _command_seconds(command: Sequence[str]) -> float:
    import time

    started = time.monotonic()
    subprocess.run(command, capture_output=True, check=True)
    return time.monotonic() - started


def main() -> None:
    """Print the figures, as one JSON line with ``--json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    parser.add_argument("--starts", type=int, default=15, help="starts of each program")
    options = parser.parse_args()
    figures = measure(options.starts)
    if options.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:16} {value:g}")


if __name__ == "__main__":
    main()
