"""A journal that was cut anywhere, as by a full disk or a power failure."""

from __future__ import annotations

import itertools
import os
from functools import reduce
from pathlib import Path

import pytest

from mlxft.runs import events as ev
from mlxft.runs.journal import JournalReader, JournalWriter
from mlxft.runs.view import RunView, fold
from support.journal import RUN_RECIPE, ended, preparation, trained_run

EVENTS = [
    *preparation()[1:],
    *trained_run(RUN_RECIPE, 4),
    ev.CheckpointSaved(step=4, path="checkpoints/4"),
    ev.RunPaused(step=4),
    ev.Warned(message="Lämpchen \N{ELECTRIC LIGHT BULB}", step=4),
    ended(4, "stopped"),
]


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A journal of each kind of event that changes much."""
    ticks = itertools.count(1_700_000_000.0)
    path = tmp_path / "events.jsonl"
    writer = JournalWriter(path, clock=lambda: next(ticks))
    for event in EVENTS:
        writer.append(event)
    writer.close()
    return path


def view_of(path: Path) -> str:
    """All that a viewer would know, as text, since NaN equals nothing."""
    return repr(reduce(fold, JournalReader(path).batches(), RunView()))


def test_at_every_byte_it_shows_what_is_whole(whole: Path) -> None:
    data = whole.read_bytes()
    events = JournalReader(whole).read()
    assert len(events) == len(EVENTS)
    expected = [repr(fold(RunView(), events[:count])) for count in range(len(events) + 1)]
    for size in range(len(data), -1, -1):
        os.truncate(whole, size)
        assert view_of(whole) == expected[data[:size].count(b"\n")], size


def test_at_every_byte_of_its_end_a_resume_appends_what_is_read_again(whole: Path) -> None:
    """Whether or not the cut line counts, each number is used once."""
    data = whole.read_bytes()
    lines = data.splitlines(keepends=True)
    for size in range(len(data), len(data) - len(lines[-1]) - 2, -1):
        whole.write_bytes(data[:size])
        writer = JournalWriter(whole)
        writer.append(ev.RunPaused(step=9))
        writer.close()
        events = JournalReader(whole).read()
        assert [each.seq for each in events] == list(range(1, len(events) + 1)), size
        assert isinstance(events[-1], ev.RunPaused)
        assert len(events) >= data[:size].count(b"\n") + 1
