"""A queue with several writers, and its supervisor: killed, and never left behind."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from random import Random

from mlxft import recipe as recipes
from mlxft.errors import RunError
from mlxft.queue import entries
from mlxft.queue.entries import Queue
from mlxft.queue.start import ensure_supervisor
from mlxft.queue.store import QueueStore, own_store
from mlxft.runs import events as ev
from mlxft.runs import lock
from mlxft.runs.directory import RunDirectory
from mlxft_tui.session import Session
from support.project import Project, events_of, eventually


def kill_supervisor(store: QueueStore) -> bool:
    """Kill the supervisor, and wait until it is gone; False if none runs."""
    note = lock.holder(store.supervisor_lock)
    if note is None or not note.isdecimal():
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(note), signal.SIGKILL)
    eventually(lambda: lock.holder(store.supervisor_lock) != note)
    return True


def end_queue(store: QueueStore) -> None:
    """Empty the queue and end its supervisor and its engine, even one that is just starting."""
    runs = [each.directory for each in store.read().entries]
    store.change(lambda _: Queue())
    while kill_supervisor(store):
        pass
    for run in runs:
        if process := run.process:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        # An engine that starts later finds no run, and ends.
        shutil.rmtree(run.path, ignore_errors=True)


# Several writers


@dataclass(frozen=True)
class Written:
    """What one of several writers has done: the numbers of entries, and how often it moved one."""

    added: list[int]
    removed: list[int]
    moves: int


def write_together(project: Project, writers: Sequence[int], adds: int) -> list[Written]:
    """Add, move and remove runs of a held queue by processes at once, one for each seed.

    Those with an odd seed are scripts, which run a command each time; the others are apps.
    """
    own_store().change(lambda queue: entries.held(queue, []))
    with ProcessPoolExecutor(len(writers), mp_context=get_context("spawn")) as pool:
        started = [pool.submit(_write, project.folder, seed, adds) for seed in writers]
        return [each.result() for each in started]


def _write(folder: Path, seed: int, adds: int) -> Written:
    """Add so many runs; move about one in two and remove about one in three between them."""
    writer = _Script(folder) if seed % 2 else _App(folder)
    random, added, removed, moves = Random(seed), list[int](), list[int](), 0
    for _ in range(adds):
        added.append(writer.add())
        waiting = own_store().read().waiting
        if random.random() < 0.5 and writer.move(random.choice(waiting).id, random.randint(1, 9)):
            moves += 1
        if random.random() < 0.33:
            chosen = random.choice([each for each in added if each not in removed])
            writer.remove(chosen)
            removed.append(chosen)
    return Written(added, removed, moves)


class _App:
    """What the app's keys do."""

    def __init__(self, folder: Path) -> None:
        self._session = Session(folder)
        self._recipe = recipes.load(folder / "recipe.yaml")

    def add(self) -> int:
        return self._session.enqueue(self._recipe).id

    def move(self, number: int, place: int) -> bool:
        """Whether another writer has not removed it meanwhile."""
        try:
            self._session.change_queue(lambda queue: entries.moved(queue, number, place))
        except RunError:
            return False
        return True

    def remove(self, number: int) -> None:
        self._session.remove_from_queue(entries.find(self._session.queue(), str(number)))


class _Script:
    """The commands of a shell script."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self) -> int:
        return int(json.loads(self._run("add", "recipe.yaml", "--json").stdout)["id"])

    def move(self, number: int, place: int) -> bool:
        return self._run("move", str(number), str(place)).returncode == 0

    def remove(self, number: int) -> None:
        self._run("remove", str(number)).check_returncode()

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mlxft_tui.cli", "queue", *words],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )


def lost_and_twice(written: Sequence[Written]) -> tuple[int, int]:
    """Of what several writers did: entries that are lost, or back, and those that are there twice.

    An entry counts as there only with its run's folder, a removed one as gone only without.
    """
    waiting = own_store().read().waiting
    found = [each.id for each in waiting]
    runs = [each.run for each in waiting]
    added = [number for each in written for number in each.added]
    removed = {number for each in written for number in each.removed}
    expected = set(added) - removed
    whole = {each.id for each in waiting if each.directory.queued_recipe_file.is_file()}
    folders = {str(each.parent) for each in Path(runs[0]).parent.glob("*/queued.yaml")}
    lost = len(expected ^ whole) + len(folders ^ set(runs))
    twice = sum(len(each) - len(set(each)) for each in (found, runs, added))
    return lost, twice


# A supervisor that is killed


def kill_while_working(store: QueueStore, random: Random, kills: int, seconds: float) -> int:
    """Kill the supervisor at random moments, so many times, until nothing is left to do.

    `seconds` is the longest time between two; returns how many were killed.
    """
    killed, end = 0, time.monotonic() + 300
    while store.read().has_work:
        assert time.monotonic() < end
        ensure_supervisor(store)
        time.sleep(random.uniform(0, seconds))
        if killed < kills:
            killed += kill_supervisor(store)
    return killed


def engines_started(run: RunDirectory) -> int:
    """How many engines have begun a session of a run."""
    return sum(isinstance(each, ev.RunStarted) for each in events_of(run))
