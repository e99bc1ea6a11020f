"""What the supervisor does next, with engines that are only journals and locks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

import pytest

from mlxft import recipe as recipes
from mlxft.engine.machine import only_training
from mlxft.errors import EngineError
from mlxft.queue import entries
from mlxft.queue.entries import Entry, Queue
from mlxft.queue.removal import remove
from mlxft.queue.start import ensure_supervisor
from mlxft.queue.store import QueueStore, own_store
from mlxft.queue.supervisor import Supervisor, supervise
from mlxft.runs import events as ev
from mlxft.runs import lock
from mlxft.runs.directory import RunDirectory, create
from mlxft.runs.events import AnyEvent
from mlxft.runs.journal import JournalWriter
from support.journal import GB, RUN_RECIPE, ended, sample, trained_run

FAILED = ev.RunFailed(message="The records are broken; fix line 7.", step=0, log="engine.log")
BEGUN = trained_run(RUN_RECIPE, 2)


Add = Callable[..., RunDirectory]


class Engines:
    """Launches engines that write what a test gives them, and live until the test ends them."""

    def __init__(self) -> None:
        self.launched: list[str] = []
        self.limits: list[int | None] = []
        """The memory limit of each."""
        self.endings: dict[str, Iterable[AnyEvent]] = {}
        """By a run's name, the events of a run that ends at once; others live."""
        self.refusal: EngineError | None = None
        self._live = ExitStack()

    def launch(self, entry: Entry, kept: int) -> None:
        run = entry.directory
        assert run.recipe_file.is_file()
        self.launched.append(run.name)
        self.limits.append(entry.memory_limit)
        if self.refusal is not None:
            raise self.refusal
        if (events := self.endings.get(run.name)) is not None:
            write(run, events)
            return
        write(run, BEGUN)
        self._live.enter_context(run.locked())

    def end(self, run: RunDirectory, *events: AnyEvent) -> None:
        """End the live engine, after these events."""
        write(run, events)
        self._live.close()


def write(run: RunDirectory, events: Iterable[AnyEvent]) -> None:
    journal = JournalWriter(run.journal_file)
    for event in events:
        journal.append(event)
    journal.close()


@pytest.fixture
def store() -> QueueStore:
    return own_store()


@pytest.fixture
def engines() -> Engines:
    return Engines()


@pytest.fixture
def add(store: QueueStore, tmp_path: Path) -> Add:
    """Adds a run to the queue."""

    def added(*changes: str) -> RunDirectory:
        recipe = recipes.apply_settings(RUN_RECIPE, changes)
        run = create(tmp_path / "adapters", recipe, "run", queued=True)
        store.change(lambda queue: entries.added(queue, run, now=0))
        return run

    return added


def proceeded(store: QueueStore, engines: Engines, times: int = 1) -> Queue:
    """The queue after a supervisor that has just started has proceeded so many times."""
    supervisor = Supervisor(store, engines.launch)
    for _ in range(times):
        supervisor.proceed()
    return store.read()


def states(queue: Queue) -> list[tuple[str, str]]:
    found: tuple[Entry, ...] = (*queue.ended, *queue.entries)
    return [(each.directory.name, each.state) for each in found]


class TestStarting:
    def test_a_queued_run_is_no_run_before_it_starts(
        self, store: QueueStore, engines: Engines, add: Add
    ) -> None:
        run = add()
        assert not run.recipe_file.exists()
        proceeded(store, engines)
        assert run.recipe() == RUN_RECIPE
        engines.end(run)

    def test_the_next_starts_when_one_has_finished_failed_or_was_stopped(
        self, store: QueueStore, engines: Engines, add: Add
    ) -> None:
        runs = [add() for _ in range(4)]
        engines.endings = {
            "run-1": [*BEGUN, ended(2)],
            "run-2": [FAILED],
            "run-3": [*BEGUN, ended(2, "stopped")],
            "run-4": BEGUN,
        }
        queue = proceeded(store, engines, 9)
        assert engines.launched == [each.name for each in runs]
        expected = ["finished", "failed", "stopped", "lost"]
        assert [each.state for each in queue.ended] == expected
        reasons = [each.reason for each in queue.ended]
        assert reasons[1] == FAILED.message
        assert reasons[2] == "Stopped at step 2, saved."
        assert "died at step 2" in reasons[3]
        assert not queue.has_work

    def test_an_engine_that_can_not_start_gives_the_reason(
        self, store: QueueStore, engines: Engines, add: Add
    ) -> None:
        add()
        engines.refusal = EngineError("MLX can't be loaded; install it.")
        (entry,) = proceeded(store, engines).ended
        assert (entry.state, entry.reason) == ("failed", "MLX can't be loaded; install it.")

    def test_it_waits_while_another_run_trains(
        self, store: QueueStore, engines: Engines, add: Add, tmp_path: Path
    ) -> None:
        run = add()
        with only_training(RunDirectory(tmp_path / "elsewhere")):
            assert states(proceeded(store, engines, 3)) == [("run-1", "waiting")]
        assert states(proceeded(store, engines)) == [("run-1", "running")]
        engines.end(run)

    def test_a_run_that_another_one_overtook_waits_again(
        self, store: QueueStore, engines: Engines, add: Add
    ) -> None:
        run = add()
        busy = ev.RunFailed(message="busy", step=0, log="", cause="machine_busy")
        engines.endings["run-1"] = [busy]
        assert states(proceeded(store, engines, 2)) == [("run-1", "waiting")]
        engines.endings["run-1"] = [*BEGUN, ended(2)]
        assert states(proceeded(store, engines, 2)) == [("run-1", "finished")]
        assert engines.launched == [run.name, run.name]


class TestAfterItsOwnDeath:
    """Each call of `proceeded` is another supervisor."""

    def test_a_live_engine_is_followed_and_no_second_one_started(
        self, store: QueueStore, engines: Engines, add: Add
    ) -> None:
        run = add()
        proceeded(store, engines)
        assert states(proceeded(store, engines, 2)) == [("run-1", "running")]
        engines.end(run, ended(2))
        assert states(proceeded(store, engines)) == [("run-1", "finished")]
        assert engines.launched == ["run-1"]

    def test_a_run_that_was_not_launched_yet_is(
        self, store: QueueStore, engines: Engines, add: Add
    ) -> None:
        run = add()
        store.change(lambda queue: entries.starting(queue, 1, after_seq=0, now=0))
        assert states(proceeded(store, engines)) == [("run-1", "running")]
        assert engines.launched == ["run-1"]
        engines.end(run)

    def test_an_engine_that_is_starting_is_waited_for(
        self, store: QueueStore, engines: Engines, add: Add
    ) -> None:
        add()
        store.change(lambda queue: entries.starting(queue, 1, after_seq=0, now=0))
        with lock.taken(store.engine_lock):
            assert states(proceeded(store, engines)) == [("run-1", "running")]
        assert engines.launched == []

    def test_an_earlier_session_of_the_run_is_no_ending(
        self, store: QueueStore, engines: Engines, add: Add
    ) -> None:
        """A run that was stopped to make way has an ending in its journal."""
        first = add()
        proceeded(store, engines)
        store.change(lambda queue: entries.making_way(queue))
        engines.end(first, ended(2, "stopped"))
        assert states(proceeded(store, engines)) == [("run-1", "waiting")]
        assert states(proceeded(store, engines, 2)) == [("run-1", "running")]
        engines.end(first, ended(4))
        assert states(proceeded(store, engines)) == [("run-1", "finished")]

    def test_a_run_whose_folder_was_deleted_ends(
        self, store: QueueStore, engines: Engines, add: Add
    ) -> None:
        run = add()
        store.change(lambda queue: entries.starting(queue, 1, after_seq=0, now=0))
        run.queued_recipe_file.unlink()
        run.path.rmdir()
        (entry,) = proceeded(store, engines).ended
        assert (entry.state, "deleted" in entry.reason) == ("failed", True)


class TestCrashes:
    """Of runs with `resume: automatic`, and one without."""

    def crashed(self, at: int, saved: int) -> list[AnyEvent]:
        return [*trained_run(RUN_RECIPE, at), ev.CheckpointSaved(step=saved, path="checkpoints")]

    def test_a_killed_engine_is_started_again_while_there_are_new_checkpoints(
        self, store: QueueStore, engines: Engines, add: Add
    ) -> None:
        add("resume=automatic")
        for saved in range(10, 70, 10):
            engines.endings["run-1"] = self.crashed(saved + 5, saved)
            assert states(proceeded(store, engines)) == [("run-1", "running")]
        engines.endings["run-1"] = [*BEGUN, ended(2)]
        assert states(proceeded(store, engines, 2)) == [("run-1", "finished")]

    def test_the_third_crash_without_a_new_checkpoint_ends_it(
        self, store: QueueStore, engines: Engines, add: Add
    ) -> None:
        add("resume=automatic")
        engines.endings["run-1"] = self.crashed(25, 20)
        (entry,) = proceeded(store, engines, 9).ended
        assert (entry.state, len(engines.launched)) == ("lost", 3)

    def test_it_waits_for_the_user_by_default(
        self, store: QueueStore, engines: Engines, add: Add
    ) -> None:
        add()
        engines.endings["run-1"] = self.crashed(25, 20)
        assert states(proceeded(store, engines, 2)) == [("run-1", "lost")]

    def test_less_memory_is_used_where_that_was_short(
        self, store: QueueStore, engines: Engines, add: Add
    ) -> None:
        add("resume=automatic")
        failed = ev.RunFailed(message="Out of memory.", step=5, log="", cause="out_of_memory")
        full = ev.MachineSampled(sample=sample(), peak_memory=10 * GB)
        engines.endings["run-1"] = [*BEGUN, full, failed]
        queue = proceeded(store, engines, 9)
        assert engines.limits == [None, 8 * GB, 6.4 * GB]
        assert [each.reason for each in queue.ended] == ["Out of memory."]

    def test_a_run_that_was_started_elsewhere_is_taken_over_alive(
        self, store: QueueStore, engines: Engines, add: Add, tmp_path: Path
    ) -> None:
        run = create(tmp_path / "adapters", RUN_RECIPE, "run")
        engines.launch(Entry(id=0, run=str(run.path)), 0)
        store.change(lambda queue: entries.adopted(queue, run, after_seq=0, now=0))
        assert states(proceeded(store, engines)) == [("run-1", "running")]
        assert engines.launched == ["run-1"]
        engines.end(run, ended(2))
        assert states(proceeded(store, engines)) == [("run-1", "finished")]


class TestProcess:
    def test_only_one_supervises(self, store: QueueStore, add: Add) -> None:
        add()
        with lock.taken(store.supervisor_lock):
            assert not supervise(store)
            assert not ensure_supervisor(store)

    def test_it_is_gone_when_nothing_waits(self, store: QueueStore, add: Add) -> None:
        add()
        store.change(lambda queue: entries.held(queue, []))
        assert not ensure_supervisor(store)
        assert supervise(store)
        assert not lock.is_taken(store.supervisor_lock)

    def test_it_runs_in_a_process_of_its_own(self, store: QueueStore) -> None:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "mlxft.queue"], capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stderr) == (0, "")

    def test_it_refuses_sudo(
        self, store: QueueStore, add: Add, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add()
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setenv("SUDO_UID", "501")
        with pytest.raises(EngineError, match="doesn't run under sudo"):
            ensure_supervisor(store)


class TestRemoving:
    def test_the_folder_of_a_run_that_never_started_is_deleted(
        self, store: QueueStore, add: Add
    ) -> None:
        run = add()
        remove(store, store.read().waiting[0])
        assert not run.path.exists()
        assert store.read().waiting == ()

    def test_a_run_that_has_trained_stays(
        self, store: QueueStore, engines: Engines, add: Add
    ) -> None:
        run = add()
        proceeded(store, engines)
        engines.end(run)
        store.change(entries.put_back)
        remove(store, store.read().waiting[0])
        assert run.recipe_file.exists()
