"""The bandwidth of watching a run: bytes per second that the Train screen writes.

A run reports twice a second on a terminal of 120×40 with all panes shown; its journal is
synthetic, with figures that jitter like a real machine's, so that every measurement sends the
viewer the same events. Then the run is paused and its machine idle.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from figures import own_folders, print_figures
from mlxft.runs import events as ev
from mlxft.runs.directory import create
from mlxft.runs.journal import JournalWriter
from support.journal import LIVE_RECIPE, LiveEngine, write_live
from support.terminal import Terminal

APP = [sys.executable, "-m", "mlxft_tui.cli"]


def paints_per_second(terminal: Terminal, start: float, seconds: float) -> float:
    """Bursts of output since `start`; output within 50 ms counts as one."""
    times = [chunk.time for chunk in terminal.chunks if chunk.time >= start]
    paints = sum(later - earlier > 0.05 for earlier, later in pairwise(times))
    return (paints + bool(times)) / seconds


def measure(folder: Path, seconds: float, remote: bool, dump: Path | None) -> dict[str, float]:
    """The figures of one run, watched while it trains and while it is paused."""
    run, engine = create(folder / "adapters", LIVE_RECIPE, "link"), LiveEngine()
    journal = JournalWriter(run.journal_file)
    environment = {"SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22" if remote else "", "SSH_TTY": ""}
    with run.locked():
        for event in engine.start():
            journal.append(event)
        while engine.step < 600:
            for event in engine.next_step():
                journal.append(event)
        command = [*APP, "attach", str(run.path)]
        with Terminal(command, 120, 40, environment, folder) as terminal:
            terminal.wait_for("RUNNING", 60)
            write_live(journal, engine, 6, trains=True)
            start, before = time.monotonic(), len(terminal.output)
            write_live(journal, engine, seconds, trains=True)
            running = terminal.output[before:]
            paints = paints_per_second(terminal, start, seconds)
            journal.append(ev.RunPaused(step=engine.step))
            write_live(journal, engine, 6, trains=False)
            before = len(terminal.output)
            write_live(journal, engine, seconds / 2, trains=False)
            paused = terminal.output[before:]
            if dump is not None:
                dump.write_bytes(running)
            frames = [len(chunk.data) for chunk in terminal.chunks if chunk.time >= start]
    return {
        "bytes_per_second": round(len(running) / seconds),
        "paused_bytes_per_second": round(len(paused) / (seconds / 2)),
        "paints_per_second": round(paints, 2),
        "frame_median_bytes": statistics.median(frames),
        "frame_most_bytes": max(frames),
    }


def main() -> None:
    """Print the figures, as one JSON line with ``--json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    parser.add_argument("--seconds", type=float, default=60.0, help="seconds to watch each state")
    parser.add_argument("--local", action="store_true", help="as on a terminal without SSH")
    parser.add_argument("--dump", type=Path, help="write the bytes sent while training here")
    options = parser.parse_args()
    with own_folders() as folder:
        figures = measure(folder, options.seconds, not options.local, options.dump)
    print_figures(figures, as_json=options.json)


if __name__ == "__main__":
    main()
