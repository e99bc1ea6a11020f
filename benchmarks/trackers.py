"""What trackers cost a run, without a network and without a login.

A run trains throughout on one core, reported to every service that is installed, with a
notification's command; all processes beside it have the same core (``--all-cores``: all of them
have all). In turns (A B, B A) those are stopped and continued, each time for the same number of
steps with one validation. Their queue is the journal: what they missed while they were stopped
they do before a stretch with them begins.

``ratio`` is the speed with them relative to without, by processor time: a step with them costs the
engine's time and theirs, a step without only the engine's. It is the median of pairs with its
95% interval, and doesn't depend on other programs' share of the core. ``clock_ratio`` is the
same by the clock, for a quiet machine; ``engine_ratio`` counts the engine's processor time alone.
``start_seconds`` is the processor time of the services' start, once a run, at a low priority.
``--json`` prints one line. On Linux.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from figures import own_folders
from mlxft.recipe import TRACKERS
from mlxft.runs.directory import RunDirectory
from mlxft.storage.paths import notifications_file
from mlxft.watching.installed import MODULES
from support.models import make_tiny_model
from support.project import Project, eventually, is_free, make_project

STEPS: Final = 40
"""Steps of a stretch, with one validation and four reports."""

SETTINGS: Final = (
    "batch_size=4",
    "num_layers=-1",
    "max_seq_length=64",
    "steps_per_report=10",
    "val_batches=1",
    f"steps_per_eval={STEPS}",
)

SIZES: Final[dict[str, Any]] = {
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_hidden_layers": 8,
}
"""Steps take some tenths of a second: a report every two or three is more often than usual."""

LIMIT: Final = 200.0
"""Seconds that a start or an end may take."""


@dataclass(frozen=True)
class Moment:
    """Seconds used so far."""

    clock: float
    engine: float
    beside: float

    def since(self, earlier: Moment) -> Moment:
        """The seconds from an earlier moment to this one."""
        return Moment(
            self.clock - earlier.clock, self.engine - earlier.engine, self.beside - earlier.beside
        )


class Beside:
    """The processes beside a run, and those that they have started."""

    def __init__(self) -> None:
        self._processes: list[psutil.Process] = []

    def find(self, engine: int) -> None:
        """Find all of them: those with this benchmark's own folders but for itself and the engine.

        A service's own process may have left its parent.
        """
        state, self._processes = os.environ["MLXFT_STATE"], []
        for each in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                is_other = each.pid not in (os.getpid(), engine)
                if is_other and each.environ().get("MLXFT_STATE") == state:
                    self._processes.append(each)

    @property
    def seconds(self) -> float:
        """The processor time of all of them."""
        return sum(processor_seconds(each.pid) for each in self._processes)

    def send(self, number: signal.Signals) -> None:
        """Send all of them a signal."""
        for each in self._processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.send_signal(number)


def processor_seconds(process: int) -> float:
    """The processor time of all threads of a process, to the nanosecond; 0 once it is gone."""
    try:
        # clock_getcpuclockid(3): the number of the process, inverted, and the kind of clock.
        return time.clock_gettime(~process << 3 | 2)
    except OSError:
        return 0.0


class Steps:
    """Waits for a run's steps."""

    def __init__(self, run: RunDirectory) -> None:
        self._file = run.journal_file.open("rb")
        self._part = b""
        self._last = 0

    def wait(self, step: int) -> None:
        """Return as soon as a step has finished."""
        end = time.monotonic() + LIMIT
        while self._last < step:
            *lines, self._part = (self._part + self._file.read()).split(b"\n")
            found = [json.loads(each) for each in lines if b'"step_finished"' in each]
            self._last = max([self._last, *(each["step"] for each in found)])
            if time.monotonic() > end:
                raise AssertionError("the run doesn't train")
            time.sleep(0.001)

    def next_report(self) -> int:
        """Return as soon as a step with a report has finished, with its number."""
        self.wait(self._last + 1)
        step = -(-(self._last + 1) // 10) * 10
        self.wait(step)
        return step


def measure(pairs: int, *, on_all_cores: bool = False) -> dict[str, Any]:
    """The speeds with and without, and what the processes have used."""
    names = [name for name in TRACKERS if find_spec(MODULES[name]) is not None]
    with own_folders() as folder:
        # Nobody is logged in there.
        for variable in ("HOME", "TRACKIO_DIR", "MLXFT_CONFIG"):
            os.environ[variable] = str(folder)
        notifications_file().write_text('command = ["/bin/true"]\n')
        project = make_project(folder / "project")
        make_tiny_model(folder / "project" / "model", **SIZES)
        return {
            "services": {each: version(MODULES[each]) for each in names},
            **_measured(project, names, pairs, on_all_cores),
        }


def _measured(project: Project, names: list[str], pairs: int, on_all_cores: bool) -> dict[str, Any]:
    if sys.platform != "linux":
        raise SystemExit("Only on Linux a process can be kept on one core.")
    cores = sorted(os.sched_getaffinity(0))
    # What a process starts stays on its core.
    os.sched_setaffinity(0, cores if on_all_cores else cores[-1:])
    run = project.start(f"report_to={','.join(names)}", *SETTINGS)
    os.sched_setaffinity(0, cores if on_all_cores else cores[:1])
    engine = run.process
    assert engine is not None
    found: dict[bool, list[Moment]] = {False: [], True: []}
    beside, steps = Beside(), Steps(run)
    try:
        eventually(partial(_all_reported, run, names, 1), LIMIT)
        beside.find(engine)
        start_seconds = beside.seconds

        def now() -> Moment:
            return Moment(time.monotonic(), processor_seconds(engine), beside.seconds)

        for number in range(2 * pairs):
            reports = number % 4 in (1, 2)
            beside.find(engine)
            beside.send(signal.SIGCONT if reports else signal.SIGSTOP)
            first = steps.next_report()
            if reports:
                eventually(partial(_all_reported, run, names, first), LIMIT)
                first = steps.next_report()
            before = now()
            steps.wait(first + STEPS)
            found[reports].append(now().since(before))
        beside.send(signal.SIGCONT)
        os.kill(engine, signal.SIGTERM)
        eventually(lambda: not run.is_live(), LIMIT)
        for name in names:
            eventually(partial(is_free, run.watching / f"{name}.lock"), LIMIT)
    finally:
        beside.send(signal.SIGCONT)
        project.end_engines()
    return {**_compared(found[True], found[False]), "start_seconds": round(start_seconds, 1)}


def _compared(reported: Sequence[Moment], alone: Sequence[Moment]) -> dict[str, Any]:
    pairs = list(zip(reported, alone, strict=True))
    processor = [without.engine / (with_.engine + with_.beside) for with_, without in pairs]
    clock = [without.clock / with_.clock for with_, without in pairs]
    engine = [without.engine / with_.engine for with_, without in pairs]
    seconds = sum(each.clock for each in reported)
    return {
        "ratio": round(statistics.median(processor), 4),
        "ratio_interval": interval(processor),
        "clock_ratio": round(statistics.median(clock), 4),
        "clock_interval": interval(clock),
        "engine_ratio": round(statistics.median(engine), 4),
        "share_of_a_core": round(sum(each.beside for each in reported) / seconds, 4),
        "step_ms": round(1000 * statistics.median(e.engine for e in alone) / STEPS, 2),
        "seconds": round(seconds + sum(each.clock for each in alone)),
        "pairs": [round(each, 4) for each in processor],
    }


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95% interval of the median that follows from the order of the values alone."""
    ordered, count = sorted(values), len(values)
    # The value of this rank is above the median with a probability of at most 2.5%.
    rank = max(0, int(count / 2 - 0.98 * count**0.5))
    return round(ordered[rank], 4), round(ordered[count - 1 - rank], 4)


def _all_reported(run: RunDirectory, names: Sequence[str], step: int) -> bool:
    return all(_reported(run, name) >= step for name in names)


def _reported(run: RunDirectory, name: str) -> int:
    """The last step that a service has a report of; 0 for none."""
    with contextlib.suppress(OSError, ValueError):
        return int(json.loads((run.watching / f"{name}.json").read_text())["train"])
    return 0


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--pairs", type=int, default=14, help="of stretches with and without")
    parser.add_argument("--all-cores", action="store_true", help="don't share one core")
    arguments = parser.parse_args()
    found = measure(arguments.pairs, on_all_cores=arguments.all_cores)
    if arguments.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:20} {value}")


if __name__ == "__main__":
    main()
