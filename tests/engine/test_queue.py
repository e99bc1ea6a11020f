"""The queue with real engines, through its commands."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from mlxft.errors import RunError
from mlxft.queue.store import QueueStore, own_store
from mlxft.runs import history
from mlxft.runs.directory import RunDirectory
from mlxft.sweep import fit
from mlxft.telemetry.limits import MachineLimits
from mlxft_tui.cli.main import main
from support.project import Project, eventually
from support.queued_runs import (
    end_queue,
    engines_started,
    kill_supervisor,
    kill_while_working,
    lost_and_twice,
    write_together,
)


@pytest.fixture
def store(project: Project) -> Iterator[QueueStore]:
    """The module's queue, empty; neither supervisor nor engine outlives the test."""
    store = own_store()
    yield store
    end_queue(store)
    project.end_engines()


Command = Callable[..., str]


@pytest.fixture
def queue(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command of the queue, and returns what it prints, or says why it has failed."""

    def run(*words: str | Path) -> str:
        status = main(["queue", *map(str, words)])
        output = capsys.readouterr()
        assert (status == 0) == ("mlxft-tui: " not in output.err), output
        return output.out if status == 0 else output.err

    return run


def listed(queue: Command) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(queue("list", "--json"))
    return found


class TestQueue:
    def test_runs_train_one_after_the_other_though_the_supervisor_is_killed(
        self, project: Project, store: QueueStore, queue: Command
    ) -> None:
        add = ("add", project.folder / "recipe.yaml", "--dir", project.folder, "--json", "--set")
        first = RunDirectory(Path(json.loads(queue(*add, "run_name=first"))["run"]))
        queue(*add, "run_name=second", "iters=4")
        assert "names no model" in queue(*add, "model=")
        engine = eventually(lambda: first.process)
        assert kill_supervisor(store)

        found = listed(queue)  # Starts another supervisor, which finds the engine.
        assert found["running"]["name"] == "first"
        assert [each["name"] for each in found["waiting"]] == ["second"]
        assert first.process == engine

        # One that is stopped before writes no start.
        eventually(lambda: engines_started(first))
        assert "stopped" in queue("stop")
        kill_while_working(store, Random(0), kills=5, seconds=0.6)
        ends = {each.directory: each.state for each in store.read().ended}
        states = {each.name: state for each, state in ends.items()}
        assert states == {"first": "stopped", "second": "finished"}
        assert [engines_started(each) for each in ends] == [1, 1]
        eventually(lambda: listed(queue)["supervisor"] is None)
        assert "Trained 4 steps." in queue("list")

    def test_no_entry_is_lost_or_twice_with_several_writers_at_once(
        self, project: Project, store: QueueStore
    ) -> None:
        written = write_together(project, writers=(2, 4, 1), adds=4)
        assert sum(len(each.added) for each in written) == 12
        assert lost_and_twice(written) == (0, 0)

    def test_a_sweep_queues_what_fits_and_says_what_does_not(
        self,
        project: Project,
        store: QueueStore,
        queue: Command,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        queue("hold")
        file = project.folder / "sizes.yaml"
        file.write_text("grid:\n  batch_size: [1, 2]\n  lora_parameters.rank: [2, 4]\n")
        command = ["sweep", str(file), "--dir", str(project.folder), "--json"]
        for _ in range(2):  # The second time there is nothing left to add.
            assert main(command) == 0
            points = json.loads(capsys.readouterr().out)["points"]
            names = [each.directory.name for each in store.read().waiting]
            assert names == [f"sizes-{n}" for n in (1, 2, 3, 4)]
            assert [each["state"] for each in points] == ["waiting"] * 4
        small = MachineLimits(total=2**20, available=None, recommended=None, kind="cpu")
        monkeypatch.setattr(fit, "machine_memory", lambda: small)
        assert main([*command, "--dry-run"]) == 0
        points = json.loads(capsys.readouterr().out)["points"]
        assert [each["state"] for each in points] == ["skipped"] * 4
        queue("remove", "sizes-1")
        assert main(["sweep-report", "--dir", str(project.folder)]) == 0
        page = capsys.readouterr().out
        assert "4 points: 1 deleted, 3 waiting." in page

    def test_waiting_runs_are_moved_held_and_removed(
        self, project: Project, store: QueueStore, queue: Command
    ) -> None:
        queue("hold")
        for name in ("a", "b", "c"):
            queue("add", project.folder / "recipe.yaml", "--dir", project.folder, "--name", name)
        with pytest.raises(RunError, match="b waits in the queue"):
            history.find(project.folder / "adapters", "b")
        queue("move", "c", "1")
        queue("hold", "b")
        queue("remove", "a")
        waiting = [(each["name"], each["state"]) for each in listed(queue)["waiting"]]
        assert waiting == [("c", "waiting"), ("b", "held")]
        assert not (project.folder / "adapters" / "a").exists()
        assert "the queue is held" in queue("list")
        assert "no such entry" in queue("move", "a", "1")
