"""The queue with real engines, used as from a shell."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlxft.queue.store import QueueStore, own_store
from mlxft.runs.directory import RunDirectory
from support.project import Project, eventually
from support.queue import end_queue, kill_supervisor

COMMAND = [sys.executable, "-m", "mlxft_tui.cli", "queue"]


def run(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=project.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def listed(project: Project) -> dict[str, Any]:
    done = run(project, "list", "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def store(project: Project) -> Iterator[QueueStore]:
    """The module's queue; neither supervisor nor engine outlives the test."""
    store = own_store()
    yield store
    end_queue(store)
    project.end_engines()


class TestQueue:
    def test_runs_train_one_after_the_other_though_the_supervisor_is_killed(
        self, project: Project, store: QueueStore
    ) -> None:
        add = ("add", "recipe.yaml", "--json", "--set", "save_every=2")
        first = json.loads(run(project, *add, "run_name=first").stdout)
        run(project, *add, "run_name=second", "iters=4")
        refused = run(project, "add", "recipe.yaml", "--set", "model=")
        assert (refused.returncode, "names no model" in refused.stderr) == (1, True)
        engine = eventually(lambda: RunDirectory(Path(first["run"])).process)
        assert kill_supervisor(store)

        found = listed(project)  # Starts another supervisor, which finds the engine.
        assert found["running"]["name"] == "first"
        assert [each["name"] for each in found["waiting"]] == ["second"]
        assert eventually(lambda: RunDirectory(Path(first["run"])).process) == engine

        stopped = run(project, "stop")
        assert (stopped.returncode, "stopped" in stopped.stdout) == (0, True)
        eventually(lambda: len(store.read().ended) == 2)
        ends = [(each.directory.name, each.state, each.launches) for each in store.read().ended]
        assert ends == [("first", "stopped", 1), ("second", "finished", 1)]
        eventually(lambda: listed(project)["supervisor"] is None)
        text = run(project, "list").stdout
        assert "Trained 4 steps." in text

    def test_waiting_runs_are_moved_held_and_removed(
        self, project: Project, store: QueueStore
    ) -> None:
        run(project, "hold")
        for name in ("a", "b", "c"):
            assert run(project, "add", "recipe.yaml", "--name", name).returncode == 0
        run(project, "move", "c", "1")
        run(project, "hold", "b")
        assert run(project, "remove", "a").returncode == 0
        waiting = [(each["name"], each["state"]) for each in listed(project)["waiting"]]
        assert waiting == [("c", "waiting"), ("b", "held")]
        assert not (project.folder / "adapters" / "a").exists()
        assert "the queue is held" in run(project, "list").stdout
        unknown = run(project, "move", "a", "1")
        assert (unknown.returncode, "no such entry" in unknown.stderr) == (1, True)
