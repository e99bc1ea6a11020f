"""The queue in the app: what adds to it, and the dialog that shows and changes it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from mlxft.queue import entries
from mlxft.queue.entries import Queue
from mlxft.queue.store import own_store
from mlxft.runs.directory import create
from mlxft_tui.runs.queue_dialog import QueueDialog
from support.journal import RUN_START, trained_run, write_run
from support.session import RECIPE, SIZES, Opened, place, screen_text, settled, words

GROUPS = ("launch", "history", "queue", "queue-poll")


@pytest.fixture
def waiting(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that trains, three that wait, and two that have ended."""
    monkeypatch.setattr(QueueDialog, "clock", staticmethod(lambda: RUN_START + 3600))
    store, adapters = own_store(), folder / "adapters"
    begun = [write_run(adapters, RECIPE, trained_run(RECIPE, 5)) for _ in range(3)]
    added = [*begun, *(create(adapters, RECIPE, "smollm2-lora", queued=True) for _ in range(3))]
    for run in added:
        store.change(lambda queue, run=run: entries.added(queue, run, now=RUN_START))

    def worked_through(queue: Queue) -> Queue:
        for number, ending, reason in (
            (1, "finished", "Trained 225 steps."),
            (2, "failed", "data/train.jsonl line 7: the record has no completion; add it."),
        ):
            queue = entries.starting(queue, number, after_seq=0, now=RUN_START)
            queue = entries.ended(queue, ending, reason, now=RUN_START + 60)  # type: ignore[arg-type]
        return entries.held(entries.starting(queue, 3, after_seq=0, now=RUN_START), [5])

    store.change(worked_through)


async def shown(pilot: Any) -> None:
    await settled(pilot)
    await pilot.press("5", "w")
    await settled(pilot, *GROUPS)


def names() -> list[str]:
    """The waiting runs' numbers with their states."""
    return [f"{each.id} {each.state}" for each in own_store().read().waiting]


class TestAdding:
    async def test_a_key_on_the_recipe_screen_adds_a_run_as_often_as_it_is_pressed(
        self, opened: Opened
    ) -> None:
        app = opened()
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            await settled(pilot)
            await pilot.press("2", "w", "w")
            await settled(pilot, *GROUPS)
            assert "waits in the queue; w on Runs (5) shows it." in words(app, "Toast")
            runs = [each.directory for each in own_store().read().waiting]
            assert len({each.path for each in runs}) == 2
            assert all(each.queued_recipe_file.is_file() for each in runs)


class TestDialog:
    async def test_its_border_names_its_keys_and_root_is_refused_before_a_question(
        self, opened: Opened, waiting: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.delenv("SUDO_UID", raising=False)
        app = opened()
        async with app.run_test(size=(80, 24), notifications=True) as pilot:
            await shown(pilot)
            await pilot.press("down")
            await pilot.pause()
            border = screen_text(app).splitlines()[-2]
            for each in ("K J move", "h hold", "H all", "i install", "esc close"):
                assert each in border
            await pilot.press("i")
            await pilot.pause()
            assert "The queue isn't installed for root" in words(app, "Toast")
            assert isinstance(app.screen, QueueDialog)

    @pytest.mark.parametrize("size", SIZES)
    def test_looks(
        self, opened: Opened, waiting: None, snap_compare: Any, size: tuple[int, int]
    ) -> None:
        async def before(pilot: Any) -> None:
            await shown(pilot)
            await pilot.press("down")
            await pilot.pause()

        assert snap_compare(opened(), terminal_size=size, run_before=before)

    async def test_keys_move_hold_and_start_what_waits(self, opened: Opened, waiting: None) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await shown(pilot)
            assert names() == ["4 waiting", "5 held", "6 waiting"]
            await pilot.press("down", "J", "J")
            await settled(pilot, *GROUPS)
            assert names() == ["5 held", "6 waiting", "4 waiting"]
            await pilot.press("up", "up", "h")
            await settled(pilot, *GROUPS)
            assert names() == ["5 waiting", "6 waiting", "4 waiting"]
            await pilot.press("end", "home", "down", "down", "n", "y", "H")
            await settled(pilot, *GROUPS)
            queue = own_store().read()
            assert names() == ["6 waiting", "5 waiting", "4 waiting"]
            assert (queue.held, queue.waiting[0].urgent) == (True, True)

    async def test_removing_asks_first(self, opened: Opened, waiting: None) -> None:
        app = opened()
        run = own_store().read().waiting[0].directory
        async with app.run_test(size=(120, 40)) as pilot:
            await shown(pilot)
            await pilot.press("down", "d", "n")
            await settled(pilot, *GROUPS)
            assert run.path.is_dir()
            await pilot.press("question_mark")
            await pilot.pause()
            assert "Start nothing until it is released" in words(app)
            await pilot.press("escape", "d", "y")
            await settled(pilot, *GROUPS)
            assert not run.path.exists()
            assert names() == ["5 held", "6 waiting"]

    async def test_enter_follows_a_run_that_has_begun(self, opened: Opened, waiting: None) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await shown(pilot)
            await pilot.press("down", "enter")
            await pilot.pause()
            assert app.current_mode == "runs"
            await pilot.press("up", "enter")
            while place(app).run is None:
                await pilot.pause()
            assert app.current_mode == "train"
            assert place(app).run.directory.name == "smollm2-lora-3"  # type: ignore[union-attr]
