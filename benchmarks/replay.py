"""The cost of a journal of a million events: seconds to replay it, a viewer's memory and CPU time.

The journal is replayed in a fresh process, as every viewer does on attaching. Then a viewer opens
the run while its journal keeps growing by four steps per second.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from functools import reduce
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import msgspec
import psutil

from figures import own_folders, print_figures
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory, create
from mlxft.runs.journal import JournalReader, JournalWriter
from mlxft.runs.view import RunView, fold
from support.journal import LIVE_RECIPE, LiveEngine, write_live
from support.terminal import Terminal

APP = [sys.executable, "-m", "mlxft_tui.cli"]
MIB = 1024**2


def write_journal(run: RunDirectory, engine: LiveEngine, events: int) -> None:
    """Write a run's events, a step each quarter of a second."""
    number, now = 0, time.time() - events / 4
    with run.journal_file.open("wb") as file:
        for event in engine.start():
            number += 1
            file.write(ev.encode(msgspec.structs.replace(event, seq=number, time=now)) + b"\n")
        while number < events:
            now += 0.25
            for event in engine.next_step():
                number += 1
                file.write(ev.encode(msgspec.structs.replace(event, seq=number, time=now)) + b"\n")


def replay(journal: Path) -> None:
    """Print the time and memory of a replay in this process."""
    started = time.perf_counter()
    view = reduce(fold, JournalReader(journal).batches(), RunView())
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mib": peak, "points": len(view.steps)}))


def measure(folder: Path, events: int, seconds: float, repeats: int) -> dict[str, float]:
    """All figures of one journal."""
    run, engine = create(folder / "adapters", LIVE_RECIPE, "replay"), LiveEngine(iters=4 * events)
    write_journal(run, engine, events)
    replays = []
    for _ in range(repeats):
        command = [sys.executable, __file__, "--replay", str(run.journal_file)]
        replays.append(json.loads(subprocess.check_output(command)))
    best = min(replays, key=lambda each: each["seconds"])
    journal = JournalWriter(run.journal_file)
    with run.locked(), Terminal([*APP, "attach", str(run.path)], 120, 40, {}, folder) as terminal:
        attached = terminal.wait_for("RUNNING", 120)
        write_live(journal, engine, 5, trains=True)
        viewer = psutil.Process(terminal.process.pid)
        before = sum(viewer.cpu_times()[:2])
        write_live(journal, engine, seconds, trains=True)
        share = (sum(viewer.cpu_times()[:2]) - before) / seconds
        resident = viewer.memory_info().rss / MIB
    return {
        "events": events,
        "replay_seconds": round(best["seconds"], 2),
        "replay_seconds_slowest": round(max(each["seconds"] for each in replays), 2),
        "replay_peak_mib": round(best["peak_mib"], 1),
        "points_kept": best["points"],
        "attached_seconds": round(attached, 2),
        "viewer_cpu_share": round(share, 4),
        "viewer_resident_mib": round(resident, 1),
    }


def main() -> None:
    """Print the figures, as one JSON line with ``--json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long a viewer is watched")
    parser.add_argument("--repeats", type=int, default=3, help="replays; the fastest counts")
    parser.add_argument("--replay", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.replay:
        replay(options.replay)
        return
    with own_folders() as folder:
        figures = measure(folder, options.events, options.seconds, options.repeats)
    print_figures(figures, as_json=options.json)


if __name__ == "__main__":
    main()
