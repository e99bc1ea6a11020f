"""What trackers cost a run, without a network and without a login.

A run trains throughout, reported to every service that is installed, with a notification's command.
In turns (A B B A) the processes beside it are stopped and continued, so drift of the machine's
speed cancels out. The journal is their queue: what a stretch without them leaves is done in the
next one with them, which therefore does the work of both. ``start_seconds`` is the processor time
of the services' start, most of it imports, at a lower priority than the run's. ``--json`` prints
one line.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from mlxft.recipe import TRACKERS
from mlxft.runs import events as ev
from mlxft.runs import lock
from mlxft.runs.directory import RunDirectory
from mlxft.runs.journal import JournalReader
from mlxft.storage.paths import notifications_file
from mlxft.watching.installed import MODULES
from support.models import make_tiny_model
from support.project import Project, eventually, make_project

SETTINGS: Final = (
    "batch_size=4",
    "num_layers=-1",
    "max_seq_length=64",
    "steps_per_report=10",
    "val_batches=1",
    "steps_per_eval=200",
)

SIZES: Final = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 8}

LIMIT: Final = 200.0
"""Seconds that a start or an end may take."""


@dataclass
class Stretches:
    """Tokens trained and the seconds they took, with trackers or without."""

    tokens: float = 0.0
    seconds: float = 0.0
    speeds: list[float] = field(default_factory=list)

    def add(self, steps: list[ev.StepFinished]) -> None:
        """Count whole steps between the first and the last."""
        tokens = sum(each.tokens for each in steps[1:])
        seconds = steps[-1].time - steps[0].time
        self.tokens += tokens
        self.seconds += seconds
        self.speeds.append(tokens / seconds)


class Beside:
    """The processes beside a run, and those that they have started."""

    def __init__(self, run: RunDirectory) -> None:
        engine = psutil.Process(run.process)
        watching = (each for each in engine.children() if "mlxft.watching" in each.cmdline())
        self._processes = [one for each in watching for one in (each, *each.children(True))]

    @property
    def seconds(self) -> float:
        """The processor time of all of them."""
        return sum(sum(each.cpu_times()[:2]) for each in self._processes)

    def send(self, number: signal.Signals) -> None:
        """Send all of them a signal."""
        for each in self._processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.send_signal(number)


def steps_for(reader: JournalReader, seconds: float) -> list[ev.StepFinished]:
    """The steps finished from now on, for some seconds."""
    reader.read()
    time.sleep(seconds)
    return [each for each in reader.read() if isinstance(each, ev.StepFinished)]


def measure(stretches: int, seconds: float) -> dict[str, object]:
    """The speeds with and without, and what the processes have used."""
    names = [name for name in TRACKERS if find_spec(MODULES[name]) is not None]
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        # Nobody is logged in there.
        os.environ["HOME"] = os.environ["TRACKIO_DIR"] = name
        for kind in ("RUNTIME", "STATE", "LOGS", "CONFIG", "CACHE"):
            os.environ[f"MLXFT_{kind}"] = f"{name}/{kind}"
        os.environ["MLXFT_PEAKS"] = f"{name}/peaks.jsonl"
        notifications_file().parent.mkdir()
        notifications_file().write_text('command = ["/bin/true"]\n')
        project = make_project(Path(name) / "project")
        make_tiny_model(Path(name) / "project" / "model", **SIZES)
        return {
            "services": {each: version(MODULES[each]) for each in names},
            **_measured(project, names, stretches, seconds),
        }


def _measured(
    project: Project, names: list[str], stretches: int, seconds: float
) -> dict[str, object]:
    run = project.start(f"report_to={','.join(names)}", *SETTINGS)
    found = {False: Stretches(), True: Stretches()}
    try:
        eventually(lambda: all(_reported(run, name) for name in names), LIMIT)
        beside, reader = Beside(run), JournalReader(run.journal_file)
        start_seconds = before = beside.seconds
        for number in range(stretches):
            reports = number % 4 in (1, 2)
            beside.send(signal.SIGCONT if reports else signal.SIGSTOP)
            found[reports].add(steps_for(reader, seconds))
        used = beside.seconds - before
        beside.send(signal.SIGCONT)
        engine = run.process
        assert engine is not None
        os.kill(engine, signal.SIGTERM)
        eventually(lambda: not run.is_live(), LIMIT)
        for name in names:
            eventually(lambda name=name: not lock.is_taken(run.watching / f"{name}.lock"), LIMIT)
    finally:
        project.end_engines()
    pairs = list(zip(found[True].speeds, found[False].speeds, strict=True))
    step = statistics.median(
        each.seconds
        for each in JournalReader(run.journal_file).read()
        if isinstance(each, ev.StepFinished)
    )
    return {
        "ratio_by_all_tokens": round(
            (found[True].tokens / found[True].seconds)
            / (found[False].tokens / found[False].seconds),
            4,
        ),
        "ratio": round(statistics.median(with_ / without for with_, without in pairs), 4),
        "pairs": [round(with_ / without, 4) for with_, without in pairs],
        "step_ms": round(1000 * step, 1),
        "start_seconds": round(start_seconds, 1),
        "share_of_a_core": round(used / (stretches * seconds), 4),
        "stretches": stretches,
        "seconds": seconds,
    }


def _reported(run: RunDirectory, name: str) -> bool:
    """Whether a service has a report of the run."""
    with contextlib.suppress(OSError, ValueError):
        reports = json.loads((run.watching / f"{name}.json").read_text())
        return bool(reports["train"] > 0)
    return False


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--stretches", type=int, default=12, help="with and without, in all")
    parser.add_argument("--seconds", type=float, default=15.0, help="seconds of a stretch")
    arguments = parser.parse_args()
    found = measure(arguments.stretches, arguments.seconds)
    if arguments.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:20} {value}")


if __name__ == "__main__":
    main()
