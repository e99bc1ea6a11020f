"""Successive halving: which points continue, and that the queue trains just those."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxft import recipe as recipes
from mlxft.errors import RecipeError
from mlxft.queue import entries
from mlxft.queue.entries import Entry, Queue
from mlxft.queue.rounds import with_next_round
from mlxft.queue.store import QueueStore, own_store
from mlxft.queue.supervisor import Supervisor
from mlxft.runs import events as ev
from mlxft.runs.directory import create
from mlxft.runs.journal import JournalWriter
from mlxft.sweep.halving import next_round, rule
from mlxft.sweep.plan import Halving, Sweep, points
from mlxft.sweep.record import SweepRecord, load_record, record_file, recorded, save_record
from support.journal import RUN_RECIPE, ended, trained_run

BASE = recipes.apply_settings(RUN_RECIPE, ["iters=40"])
SWEEP = Sweep(name="s", grid={"seed": [1, 2, 3, 4, 5]}, halving=Halving(first=10, factor=2))
LOSSES = {1: 0.9, 2: 0.5, 3: 0.7, 4: 0.6, 5: 0.8}


def record_of(sweep: Sweep = SWEEP) -> SweepRecord:
    return recorded(sweep, points(sweep, BASE), {})


class TestRule:
    def test_the_best_of_a_round_continue(self) -> None:
        first = next_round(record_of(), LOSSES)
        assert first is not None
        assert (first.until, first.points) == (20, (2, 4))

    def test_of_equal_ones_the_first_continues_and_failed_ones_do_not(self) -> None:
        found = next_round(record_of(), {1: 0.5, 3: 0.5, 4: 0.5})
        assert found is not None
        assert found.points == (1, 3)
        assert next_round(record_of(), {}) is None

    def test_it_is_said_before_it_starts(self) -> None:
        assert rule(record_of()) == (
            "Successive halving by validation loss: after step 10 the best 2 of 5 continue, after "
            "step 20 the best 1 of 2 continue."
        )

    def test_points_are_validated_where_a_round_ends(self) -> None:
        assert {each.recipe.steps_per_eval for each in points(SWEEP, BASE)} == {10}

    def test_what_it_compares_by_is_not_swept(self) -> None:
        sweep = Sweep(name="s", grid={"iters": [20, 40]}, halving=Halving(first=10))
        with pytest.raises(RecipeError, match="iters can't be swept with halving"):
            points(sweep, BASE)
        late = Sweep(name="s", grid=SWEEP.grid, halving=Halving(first=21))
        with pytest.raises(RecipeError, match="lower it to 20 or less"):
            points(late, BASE)
        without = recipes.replace(BASE, "val_batches", 0)
        with pytest.raises(RecipeError, match="set the recipe's val_batches"):
            points(SWEEP, without)


@pytest.fixture
def store(tmp_path: Path) -> QueueStore:
    """A queue with the sweep's first round."""
    record, store, file = record_of(), own_store(), str(record_file(tmp_path, "s"))
    for point in points(SWEEP, BASE):
        run = create(tmp_path / "adapters", point.recipe, "", queued=True)
        record = record.with_run(point.number, run.name)
        store.change(lambda queue, run=run: entries.added(queue, run, now=0, until=10, sweep=file))
    save_record(tmp_path, record)
    return store


def train(entry: Entry, kept: int) -> None:
    """An engine that trains at once as far as it should; the third run fails in its first round."""
    run, number = entry.directory, int(entry.directory.name.rpartition("-")[2])
    journal, until = JournalWriter(run.journal_file), entry.until or 40
    if number == 2 and until == 20:
        journal.append(ev.RunFailed(message="Step 12: out of memory.", step=12, log=""))
    else:
        for event in trained_run(BASE, until):
            journal.append(event)
        loss = LOSSES[number] * 40 / until
        journal.append(ev.ValidationFinished(step=until, loss=loss, tokens=9, seconds=1, best=True))
        journal.append(ended(until, "stopped" if entry.until else "completed"))
    journal.close()


class TestQueue:
    def test_each_round_is_queued_after_the_one_before(
        self, store: QueueStore, tmp_path: Path
    ) -> None:
        """Each step by another supervisor; one of the two best fails, so the other one wins."""
        launched: list[tuple[str, int | None]] = []

        def launch(entry: Entry, kept: int) -> None:
            launched.append((entry.directory.name, entry.until))
            train(entry, kept)

        while store.read().has_work:
            Supervisor(store, launch).proceed()
        first = [(f"s-{number}", 10) for number in LOSSES]
        assert launched == [*first, ("s-2", 20), ("s-4", 20), ("s-4", None)]
        states = [(each.directory.name, each.state) for each in store.read().ended]
        assert states[-3:] == [("s-2", "failed"), ("s-4", "stopped"), ("s-4", "finished")]
        rounds = load_record(tmp_path, "s").rounds
        assert [(each.until, each.points) for each in rounds] == [
            (10, (1, 2, 3, 4, 5)),
            (20, (2, 4)),
            (40, (4,)),
        ]

    def test_a_round_is_decided_once_if_the_supervisor_is_killed(
        self, store: QueueStore, tmp_path: Path
    ) -> None:
        """It has recorded the round, and dies before the queue has it."""
        for entry in store.read().waiting:
            entry.directory.leave_queue()
            train(entry, 0)
        file = record_file(tmp_path, "s")
        lost = with_next_round(Queue(), file, 0)
        again = with_next_round(Queue(), file, 0)
        assert [each.directory.name for each in again.waiting] == ["s-2", "s-4"]
        assert lost == again
        assert len(load_record(tmp_path, "s").rounds) == 2
