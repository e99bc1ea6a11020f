"""The queue's order, whatever is requested in whatever order."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxft.errors import RunError
from mlxft.queue import entries
from mlxft.queue.entries import Queue
from mlxft.runs.directory import RunDirectory


def queue_of(count: int) -> Queue:
    queue = Queue()
    for number in range(1, count + 1):
        queue = entries.added(queue, RunDirectory(Path(f"/p/adapters/run-{number}")), now=number)
    return queue


def numbers(queue: Queue) -> list[int]:
    return [each.id for each in queue.waiting]


class TestOrder:
    def test_the_first_that_is_not_held_starts(self) -> None:
        queue = entries.held(queue_of(3), [1])
        assert queue.startable is not None
        assert queue.startable.id == 2
        released = entries.released(queue, [1])
        assert released.startable is not None
        assert released.startable.id == 1

    def test_nothing_starts_from_a_held_queue_but_what_is_urgent(self) -> None:
        queue = entries.held(queue_of(3), [])
        assert queue.startable is None
        assert not queue.has_work
        queue = entries.urgent(queue, 3)
        assert numbers(queue) == [3, 1, 2]
        assert queue.startable is not None
        assert queue.startable.id == 3

    @pytest.mark.parametrize(
        ("place", "order"), [(1, [3, 1, 2]), (2, [1, 3, 2]), (3, [1, 2, 3]), (99, [1, 2, 3])]
    )
    def test_an_entry_moves_to_any_place(self, place: int, order: list[int]) -> None:
        assert numbers(entries.moved(queue_of(3), 3, place)) == order

    def test_one_that_made_way_waits_behind_the_urgent_one(self) -> None:
        queue = entries.starting(queue_of(3), 1, after_seq=0, now=0)
        queue = entries.put_back(entries.making_way(entries.urgent(queue, 3)))
        assert numbers(queue) == [3, 1, 2]
        assert queue.running is None

    def test_a_running_entry_is_neither_moved_nor_removed(self) -> None:
        queue = entries.starting(queue_of(2), 1, after_seq=0, now=0)
        with pytest.raises(RunError, match="run-1 is training; stop it"):
            entries.removed(queue, 1)
        with pytest.raises(RunError, match="7: no such run waits"):
            entries.moved(queue, 7, 1)

    def test_an_entry_is_found_by_number_name_and_folder(self) -> None:
        queue = queue_of(3)
        for name in ("2", "run-2", "/p/adapters/run-2"):
            assert entries.find(queue, name).id == 2


ACTIONS = ("add", "move", "hold", "release", "remove", "urgent", "start", "end", "put back")


class TestNoEntryIsLost:
    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 9)), max_size=40))
    def test_each_is_in_one_place(self, actions: list[tuple[str, int]]) -> None:
        """Whatever is done, an entry that was added waits, trains, has ended or was removed."""
        queue, gone, count = Queue(), set[int](), 0
        for action, at in actions:
            chosen = queue.waiting[at % len(queue.waiting)].id if queue.waiting else None
            if action == "add":
                count += 1
                queue = entries.added(queue, RunDirectory(Path(f"/r{count}")), now=0)
            elif action == "end":
                queue = entries.ended(queue, "finished", "", now=0)
            elif action == "put back":
                queue = entries.put_back(queue)
            elif chosen is None:
                continue
            elif action == "move":
                queue = entries.moved(queue, chosen, at)
            elif action == "hold":
                queue = entries.held(queue, [chosen])
            elif action == "release":
                queue = entries.released(queue, [chosen])
            elif action == "urgent":
                queue = entries.urgent(queue, chosen)
            elif action == "remove":
                queue, gone = entries.removed(queue, chosen), gone | {chosen}
            elif queue.running is None:
                queue = entries.starting(queue, chosen, after_seq=0, now=0)
            found = [each.id for each in (*queue.entries, *queue.ended)]
            assert sorted(found) == sorted(set(range(1, count + 1)) - gone)
