"""How fast the screens of many runs answer, in a terminal of 120×40.

    python benchmarks/many_runs.py --json
    python benchmarks/many_runs.py --runs 2000 --curves 50 --steps 100000 --presses 300

The table: ``opened_s`` from the key of Runs until it lists them, with the summaries kept by an
earlier start, and ``first_opened_s`` without; ``..._p99_ms`` from a key to its paint. The overlay:
``overlaid_s`` from the key until all curves are drawn, with the views kept, and
``first_overlaid_s`` when every journal is read.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from mlxft.runs.directory import create
from replay import write_journal
from runs_table import make
from support.journal import LIVE_RECIPE, LiveEngine
from support.terminal import Terminal

APP: Final = [sys.executable, "-m", "mlxft_tui.cli"]
PAUSE_SECONDS: Final = 0.05
"""Between a paint and the next key."""

BRAILLE: Final = re.compile("[\u2801-\u28ff]")


@contextmanager
def application(folder: Path) -> Iterator[Terminal]:
    """The application on a project, its first screen painted."""
    with Terminal(APP, 120, 40, {}, folder) as terminal:
        terminal.wait_for("Data", 60)
        time.sleep(2)
        yield terminal


def body(terminal: Terminal) -> list[str]:
    """The lines of the table or of the plot, without those of the details or the legend."""
    return terminal.text.splitlines()[2:22]


def opened(terminal: Terminal) -> float:
    """Seconds from the key of Runs until all runs are listed."""
    terminal.send("5")
    return terminal.wait(lambda: "run-" in terminal.text and "reading" not in terminal.text, 600)


def press(terminal: Terminal, keys: str, count: int) -> list[float]:
    """Milliseconds from each of some keys, pressed in turn, to its paint."""
    times = []
    for number in range(count):
        before = body(terminal)
        terminal.send(keys[number % len(keys)])
        seconds = terminal.wait(lambda before=before: body(terminal) != before, 10)  # type: ignore[misc]
        times.append(1000 * seconds)
        time.sleep(PAUSE_SECONDS)
    return times


def table(folder: Path, runs: int, presses: int) -> dict[str, float]:
    """The figures of the table of runs."""
    make(folder / "adapters", runs, 200)
    with application(folder) as terminal:
        first = opened(terminal)
    with application(folder) as terminal:
        again = opened(terminal)
        time.sleep(2)
        moves = press(terminal, "jjjjjk", presses)
        pages = press(terminal, "Gg", presses // 4)
        sorts = press(terminal, "o", presses // 4)
    return {
        "first_opened_s": first,
        "opened_s": again,
        **percentiles("move", moves),
        **percentiles("end", pages),
        **percentiles("sort", sorts),
    }


def overlay(folder: Path, curves: int, steps: int, presses: int) -> dict[str, float]:
    """The figures of the comparison."""
    engine = LiveEngine(iters=steps)
    first = create(folder / "adapters", LIVE_RECIPE, "run")
    write_journal(first, engine, int(1.53 * steps))
    for _ in range(curves - 1):
        run = create(folder / "adapters", LIVE_RECIPE, "run")
        shutil.copy(first.journal_file, run.journal_file)
    with application(folder) as terminal:
        opened(terminal)
        terminal.send(" " * curves)
        terminal.wait_quiet()
        seconds = [drawn(terminal) for _ in range(2)]
        keys = press(terminal, "mxy", presses)
    with application(folder) as terminal:
        opened(terminal)
        terminal.send(" " * curves)
        terminal.wait_quiet()
        seconds.append(drawn(terminal))
    return {
        "journals_mb": curves * first.journal_file.stat().st_size / 1e6,
        "first_overlaid_s": seconds[0],
        "overlaid_s": seconds[2],
        "overlaid_again_s": seconds[1],
        **percentiles("curve", keys),
    }


def drawn(terminal: Terminal) -> float:
    """Seconds from the key that compares until all curves are drawn; goes back to Runs first."""
    if "m Curve" in terminal.text:
        terminal.send("\x1b")
        terminal.wait(lambda: "space Mark" in terminal.text, 20)
        terminal.wait_quiet()
    begun = time.monotonic()
    terminal.send("c")
    terminal.wait(lambda: is_drawn(terminal.text), 600)
    terminal.wait_quiet()
    return terminal.chunks[-1].time - begun


def is_drawn(text: str) -> bool:
    """Whether the plot is there and no run is still read; the legend has every run's figure."""
    return bool(BRAILLE.search(text)) and "reading" not in text and "best val" in text


def percentiles(name: str, times: list[float]) -> dict[str, float]:
    """The median, and the 99th percentile."""
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return {f"{name}_p50_ms": cuts[49], f"{name}_p99_ms": cuts[98]}


def main() -> None:
    # What comes from the terminal is read while another thread draws it.
    sys.setswitchinterval(0.0005)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--curves", type=int, default=50)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--presses", type=int, default=200, help="keys of each kind")
    parser.add_argument("--only", choices=("table", "overlay"))
    options = parser.parse_args()
    parts: dict[str, Callable[[Path], dict[str, float]]] = {
        "table": lambda folder: table(folder, options.runs, options.presses),
        "overlay": lambda folder: overlay(folder, options.curves, options.steps, options.presses),
    }
    figures: dict[str, float] = {}
    for name, part in parts.items():
        if options.only in (None, name):
            with tempfile.TemporaryDirectory(prefix="mlxft-", dir="/tmp") as place:
                for kind in ("RUNTIME", "STATE", "CACHE", "LOGS"):
                    os.environ[f"MLXFT_{kind}"] = f"{place}/{kind.lower()}"
                folder = Path(place) / "project"
                (folder / "adapters").mkdir(parents=True)
                figures |= part(folder)
    if options.json:
        print(json.dumps({name: round(value, 3) for name, value in figures.items()}))
    else:
        for name, value in figures.items():
            print(f"{name:18} {value:10.3f}")


if __name__ == "__main__":
    main()
