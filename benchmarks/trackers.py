"""What trackers cost a run, without a network and without a login.

The same run of the demo model trains without trackers (A) and with every one that is installed and
a notification's command (B), in turns (A B B A …). A speed is that of all tokens between the first
step, with which the trackers start, and the last; ``settled`` leaves out the first steps, while the
services' libraries are imported. ``--json`` prints one line.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from mlxft import recipe as recipes
from mlxft.engine.launch import launch_training
from mlxft.recipe import TRACKERS, Recipe
from mlxft.runs import events as ev
from mlxft.runs import lock
from mlxft.runs.directory import RunDirectory, create
from mlxft.storage.paths import cache_dir, notifications_file
from mlxft.watching.installed import MODULES
from support.project import events_of, eventually

SETTINGS: Final = (
    "model=demo",
    "batch_size=2",
    "num_layers=2",
    "max_seq_length=64",
    "steps_per_report=10",
    "steps_per_eval=100",
    "val_batches=2",
    "save_every=100000",
)

LIMIT: Final = 600.0


@dataclass
class Speeds:
    """Tokens a second of each run, from its first step and from when everything has started."""

    whole: list[float] = field(default_factory=list)
    settled: list[float] = field(default_factory=list)

    def add(self, steps: list[ev.StepFinished], settling: float) -> None:
        """Add a run by its steps; `settling` is the share of them that is left out."""
        self.whole.append(_speed(steps))
        self.settled.append(_speed(steps[int(len(steps) * settling) :]))


def _speed(steps: list[ev.StepFinished]) -> float:
    """Between two steps' own moments, so that whatever happens in between counts."""
    return sum(each.tokens for each in steps[1:]) / (steps[-1].time - steps[0].time)


def write_records(folder: Path) -> None:
    """Records of one length, so that each step costs the same."""
    folder.mkdir()
    for split, count in (("train", 400), ("valid", 4)):
        lines = (
            json.dumps({"prompt": f"Say the number {n:03d}.", "completion": f"{n:03d} {n:03d}"})
            for n in range(count)
        )
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")


def trained(folder: Path, steps: int, names: list[str]) -> RunDirectory:
    """A run that has ended, and with it all that was started beside it."""
    recipe = recipes.apply_settings(
        Recipe(data=str(folder / "data"), report_to=",".join(names) or None),
        [*SETTINGS, f"iters={steps}"],
    )
    run = create(folder / "adapters", recipe, "reported" if names else "plain")
    launch_training(run)
    eventually(lambda: not run.is_live(), LIMIT)
    for name in names:
        eventually(lambda name=name: not lock.is_taken(run.watching / f"{name}.lock"), LIMIT)
    return run


def measure(turns: int, steps: int, settling: float) -> dict[str, object]:
    """The speeds of both, and their ratios by pair."""
    names = [name for name in TRACKERS if find_spec(MODULES[name]) is not None]
    found = {False: Speeds(), True: Speeds()}
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        os.environ.setdefault("MLXFT_CACHE", str(cache_dir()))
        # Nobody is logged in there.
        os.environ["HOME"] = os.environ["TRACKIO_DIR"] = name
        for kind in ("RUNTIME", "STATE", "LOGS", "CONFIG"):
            os.environ[f"MLXFT_{kind}"] = f"{name}/{kind}"
        os.environ["MLXFT_PEAKS"] = f"{name}/peaks.jsonl"
        write_records(folder / "data")
        for number in range(turns):
            for reports in (False, True) if number % 2 == 0 else (True, False):
                notifications_file().parent.mkdir(exist_ok=True)
                command = 'command = ["/bin/true"]\n' if reports else ""
                notifications_file().write_text(command)
                run = trained(folder, steps, names if reports else [])
                of_run = [e for e in events_of(run) if isinstance(e, ev.StepFinished)]
                assert len(of_run) == steps, run.log_file.read_text()
                found[reports].add(of_run, settling)
                print(f"{run.name}: {found[reports].whole[-1]:.1f} tokens/s", file=sys.stderr)
    return {
        "services": names,
        "ratio": _ratio(found[True].whole, found[False].whole),
        "ratio_settled": _ratio(found[True].settled, found[False].settled),
        "pairs": [
            round(b / a, 4) for a, b in zip(found[False].whole, found[True].whole, strict=True)
        ],
        "plain_tokens_per_second": round(statistics.fmean(found[False].whole), 1),
        "reported_tokens_per_second": round(statistics.fmean(found[True].whole), 1),
        "turns": turns,
        "steps": steps,
    }


def _ratio(reported: list[float], plain: list[float]) -> float:
    """The median of the pairs' ratios."""
    pairs = zip(plain, reported, strict=True)
    return round(statistics.median(with_ / without for without, with_ in pairs), 4)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--turns", type=int, default=4, help="runs of each")
    parser.add_argument("--steps", type=int, default=600, help="steps of a run")
    parser.add_argument(
        "--settling", type=float, default=0.3, help="share of the steps that settled leaves out"
    )
    arguments = parser.parse_args()
    found = measure(arguments.turns, arguments.steps, arguments.settling)
    if arguments.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:26} {value}")


if __name__ == "__main__":
    main()
