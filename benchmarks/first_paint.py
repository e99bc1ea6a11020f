"""Measure the first paint: seconds from exec until 1,500 bytes have arrived on a pty.

Alternates between the application and a hello-world Textual app, so that drift of the machine's
speed cancels out. The app opens a folder with data, a recipe and a finished run, and an
empty folder.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from figures import print_figures
from mlxft.recipe import Recipe
from mlxft.recipe.files import save
from mlxft.storage.paths import sample_data
from support.journal import ended, trained_run, write_run
from support.terminal import Terminal

PAINTED_BYTES = 1500
"""Bytes after which the first screen counts as painted."""

FIRST_RECORD = "Please tell Carla"
"""Text of the first record of the sample data."""

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
    """Seconds from exec until the first paint, and until the content is shown."""

    paint: float
    content: float


def start(command: Sequence[str], folder: Path, content: str) -> Start:
    """Start a program in a 120×40 terminal and kill it once it shows `content`."""
    with Terminal(command, 120, 40, folder=folder) as terminal:
        terminal.wait_for(content, 60)
        shown = time.monotonic()
        # The text may be in the first of several reads.
        terminal.wait(lambda: len(terminal.output) >= PAINTED_BYTES, 60)
        sizes = accumulate(len(chunk.data) for chunk in terminal.chunks)
        arrived = zip(terminal.chunks, sizes, strict=False)
        painted = next(chunk.time for chunk, size in arrived if size >= PAINTED_BYTES)
        return Start(painted - terminal.started, shown - terminal.started)


def make_project(folder: Path) -> Path:
    """A folder with data, a recipe and a finished run."""
    folder.mkdir()
    recipe = Recipe(model="models/demo", data=str(sample_data()))
    save(recipe, folder / "recipe.yaml")
    write_run(folder / "adapters", recipe, [*trained_run(recipe, 400), ended(400)])
    return folder


def measure(app: Sequence[str], starts: int) -> dict[str, float]:
    """Medians over alternating starts, after one of each to warm the caches."""
    with tempfile.TemporaryDirectory(prefix="mlxft-", dir="/tmp") as root:
        os.environ.update(
            {
                f"MLXFT_{kind}": f"{root}/{kind}"
                for kind in ("CACHE", "RUNTIME", "STATE", "LOGS", "CONFIG")
            }
        )
        hello = Path(root, "hello.py")
        hello.write_text(HELLO)
        project, empty = make_project(Path(root, "project")), Path(root, "empty")
        empty.mkdir()
        programs = {
            "ours": ([*app, str(project)], project, FIRST_RECORD),
            "empty": ([*app, str(empty)], empty, "doesn't exist"),
            "hello": ([sys.executable, str(hello)], empty, "Hello, world!"),
        }
        found: dict[str, list[Start]] = {name: [] for name in programs}
        for number in range(starts + 1):
            for name in list(programs) if number % 2 else reversed(programs):
                found[name].append(start(*programs[name]))
        version = [seconds([*app, "--version"]) for _ in range(starts)]
    paint = {name: statistics.median(each.paint for each in found[name][1:]) for name in found}
    content = {name: statistics.median(each.content for each in found[name][1:]) for name in found}
    return {
        "ours_s": round(paint["ours"], 3),
        "empty_s": round(paint["empty"], 3),
        "hello_s": round(paint["hello"], 3),
        "ratio": round(paint["ours"] / paint["hello"], 3),
        "ratio_empty": round(paint["empty"] / paint["hello"], 3),
        "content_s": round(content["ours"], 3),
        "version_s": round(statistics.median(version), 3),
    }


def seconds(command: Sequence[str]) -> float:
    """How long a command takes."""
    started = time.monotonic()
    subprocess.run(command, capture_output=True, check=True)
    return time.monotonic() - started


def main() -> None:
    """Print the figures, as one JSON line with ``--json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    parser.add_argument("--starts", type=int, default=15, help="starts of each program")
    parser.add_argument("--python", default=sys.executable, help="of another installation")
    options = parser.parse_args()
    figures = measure([options.python, "-m", "mlxft_tui.cli"], options.starts)
    print_figures(figures, as_json=options.json)


if __name__ == "__main__":
    main()
