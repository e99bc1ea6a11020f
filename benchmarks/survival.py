"""Accidents on purpose, and what is left after them.

Each run of a tiny model is put on the queue with ``resume: automatic`` and meets one accident at a
random moment. It must end with the adapter of an undisturbed run and each step once in its
journal, resumed by the queue's supervisor or, where it was ended properly, as a person would.
``--json`` prints one line: `runs`, `right`, `stray_processes`, `met_live` (accidents that met a
live engine), `resumed_manually`, and how many were right by kind. On Linux; root isn't stopped by
a read-only folder.

``--queue`` has two apps and a script add, move and remove runs of one queue at once, then kills the
queue's supervisor with SIGKILL at random moments while it works through runs. Keys: `changes`,
`lost` and `twice` of the entries; `kills`, the `runs` that the killed supervisors worked through,
those `finished` with the adapter of an undisturbed run, and `started_twice`.

``--fuzz N`` sends so many requests, valid, damaged or senseless, to the engine of a live run.
Keys: `requests`, `answered`, `refused`, `unanswered`, `steps` meanwhile, `still_trains`, and the
`growth` of the engine's memory in bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
os.environ["PYTHONPATH"] = os.pathsep.join(each for each in sys.path if each)

from figures import own_folders
from mlxft import recipe as recipes
from mlxft.queue import entries
from mlxft.queue.store import own_store
from mlxft_tui.session import Session
from support.accidents import ACCIDENTS, Scene, Survivor, stray_processes, write_clock
from support.fuzzing import fuzz
from support.project import Project, eventually, make_project
from support.queued_runs import (
    end_queue,
    engines_started,
    kill_while_working,
    lost_and_twice,
    write_together,
)
from support.training import undisturbed, wait_for_first_step

SHORT = ("iters=30", "batch_size=2", "save_every=10")


@contextmanager
def own_project() -> Iterator[Project]:
    """A tiny project with state folders of its own: other projects' runs don't matter."""
    with own_folders(cache=False) as folder:
        project = make_project(folder / "project")
        try:
            yield project
        finally:
            end_queue(own_store())
            project.end_engines()


def queue_survives(seed: int, adds: int, runs: int, kills: int) -> dict[str, Any]:
    """Several writers at once, then a supervisor that is killed again and again."""
    with own_project() as project:
        written = write_together(project, (seed * 2, seed * 2 + 2, seed * 2 + 1), adds)
        lost, twice = lost_and_twice(written)
        changes = sum(len(each.added) + len(each.removed) + each.moves for each in written)
    with own_project() as project:
        store = own_store()
        run = project.start(*SHORT)
        eventually(lambda: not run.is_live())
        expected = run.adapter_file.read_bytes()
        session, recipe = Session(project.folder), recipes.apply_settings(project.recipe, SHORT)
        store.change(lambda queue: entries.held(queue, []))
        queued = [session.enqueue(recipe).directory for _ in range(runs)]
        store.change(lambda queue: entries.released(queue, []))
        killed = kill_while_working(store, Random(seed), kills, 1.0)
        ended = [each.state for each in store.read().ended]
        same = [each.adapter_file.read_bytes() == expected for each in queued]
        return {
            "changes": changes,
            "lost": lost,
            "twice": twice,
            "kills": killed,
            "runs": runs,
            "finished": sum(a == "finished" and b for a, b in zip(ended, same, strict=True)),
            "started_twice": sum(engines_started(each) != 1 for each in queued),
        }


def runs_survive(runs: int, seed: int, quiet: bool, accidents: Sequence[str]) -> dict[str, Any]:
    """One accident a run, each kind equally often."""
    random, found = Random(seed), list[Survivor]()
    with own_project() as project:
        os.environ.update(write_clock(project.folder.parent / "clock"))
        scene = Scene(project, *undisturbed(project))
        kinds = random.sample(accidents, len(accidents))
        for number in range(runs):
            found.append(scene.suffer(random, kinds[number % len(kinds)]))
            if not quiet:
                each = found[-1]
                verdict = "right" if each.is_right else "WRONG"
                print(
                    f"{number + 1:4}  {each.accidents[0]:18} {each.seconds:5.1f} s  {verdict}",
                    flush=True,
                )
        stray = stray_processes()
    by_kind = {
        kind: f"{sum(e.is_right for e in found if kind in e.accidents)}/"
        f"{sum(kind in e.accidents for e in found)}"
        for kind in sorted(kinds)
    }
    return {
        "runs": len(found),
        "right": sum(each.is_right for each in found),
        "stray_processes": len(stray),
        "met_live": sum(each.met_live for each in found),
        "resumed_manually": sum(each.resumed_manually for each in found),
        "accidents": by_kind,
    }


def run_is_fuzzed(seed: int, count: int) -> dict[str, Any]:
    """Requests to a run that trains until the last of them."""
    with own_project() as project:
        run = project.start("val_batches=2", "steps_per_eval=1000000")
        wait_for_first_step(run)
        return asdict(fuzz(run, seed, count))


def main() -> None:
    """Cause the accidents and count; exits with 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print only the line of JSON")
    parser.add_argument("--queue", action="store_true", help="the queue")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--adds", type=int, default=67, help="by each of the three writers")
    parser.add_argument("--queued", type=int, default=16, help="runs worked through")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--runs", type=int, default=100, help="that meet an accident")
    parser.add_argument("--only", choices=ACCIDENTS, action="append", help="kinds of accidents")
    parser.add_argument("--fuzz", type=int, metavar="N", help="requests to a run that trains")
    arguments = parser.parse_args()
    if arguments.fuzz:
        found = run_is_fuzzed(arguments.seed, arguments.fuzz)
        is_right = found["still_trains"] and not found["unanswered"]
    elif arguments.queue:
        found = queue_survives(arguments.seed, arguments.adds, arguments.queued, arguments.kills)
        is_right = found["finished"] == found["runs"]
        is_right &= not any(found[each] for each in ("lost", "twice", "started_twice"))
    else:
        kinds = arguments.only or list(ACCIDENTS)
        found = runs_survive(arguments.runs, arguments.seed, arguments.json, kinds)
        is_right = found["right"] == found["runs"] and not found["stray_processes"]
    print(json.dumps(found))
    sys.exit(not is_right)


if __name__ == "__main__":
    main()
