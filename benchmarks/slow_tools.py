"""What hanging and failing tools of a Mac cost a run's steps, on a machine made of captures.

The same run trains with tools that answer (A) and with tools that hang until they are killed or
fail (B), in turns (A B B A …), each in an engine process that believes that it is on a Mac.
``--json`` prints one line: milliseconds of a step of each and their ratio, by the fastest tenth of
all steps of the turns, since whatever else the machine does only makes steps slower.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Final

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from figures import print_figures
from mlxft.runs import events as ev
from support.macs import MACHINES, Mac, Mode
from support.models import make_tiny_model
from support.project import Project, events_of, eventually, make_project

SITE: Final = Path(__file__).parents[1] / "tests" / "support" / "mac_site"

HANGING: Final[dict[str, Mode]] = {
    "ioreg": "slow",
    "vm_stat": "slow",
    "sysctl": "failing",
    "notifyutil": "wrong",
    "macmon": "missing",
}

SETTINGS: Final = ("batch_size=2", "max_seq_length=64", "num_layers=-1", "prevent_sleep=false")


def step_seconds(project: Project, steps: int) -> list[float]:
    """Seconds of a run's steps, without the first tenth of them."""
    run = project.start(f"iters={steps}", *SETTINGS)
    eventually(lambda: not run.is_live(), 240)
    seconds = [each.seconds for each in events_of(run) if isinstance(each, ev.StepFinished)]
    assert len(seconds) == steps, run.log_file.read_text()
    return seconds[steps // 10 :]


def measure(turns: int, steps: int) -> dict[str, float | int]:
    """The fastest tenth of both, and their ratio."""
    found: dict[bool, list[float]] = {True: [], False: []}
    with tempfile.TemporaryDirectory(dir="/tmp") as name, pytest.MonkeyPatch.context() as patch:
        for kind in ("RUNTIME", "STATE", "LOGS", "CACHE"):
            patch.setenv(f"MLXFT_{kind}", f"{name}/{kind}")
        patch.setenv("MLXFT_PEAKS", f"{name}/peaks.jsonl")
        patch.setenv("PYTHONPATH", f"{SITE}:{os.environ.get('PYTHONPATH', '')}")
        project = make_project(Path(name) / "project")
        make_tiny_model(
            Path(name) / "project" / "model", hidden_size=128, intermediate_size=384, head_dim=32
        )
        mac = Mac(Path(name) / "mac", patch)
        for number in range(turns):
            for hangs in (False, True) if number % 2 == 0 else (True, False):
                mac.become(MACHINES[1], HANGING if hangs else {"macmon": "missing"}, timeout=2.0)
                found[hangs] += step_seconds(project, steps)
    answering, hanging = (statistics.quantiles(found[each], n=10)[0] for each in (False, True))
    return {
        "answering_ms": round(1000 * answering, 3),
        "hanging_ms": round(1000 * hanging, 3),
        "ratio": round(hanging / answering, 4),
        "turns": turns,
        "steps": steps,
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--turns", type=int, default=6, help="runs of each")
    parser.add_argument("--steps", type=int, default=300, help="steps of a run")
    arguments = parser.parse_args()
    found = measure(arguments.turns, arguments.steps)
    print_figures(found, as_json=arguments.json)


if __name__ == "__main__":
    main()
