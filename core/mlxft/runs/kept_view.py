"""The view of a long run, kept beside its journal so that the journal is read once.

Comparing 50 runs of 100,000 steps would otherwise read two gigabytes each time.
"""

from __future__ import annotations

import contextlib
from array import array
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Final

import msgspec

from mlxft.errors import StorageError
from mlxft.runs import events as ev
from mlxft.runs import lock
from mlxft.runs.directory import RunDirectory
from mlxft.runs.followed import FollowedRun, recorded_recipe
from mlxft.runs.journal import JournalReader
from mlxft.runs.steps import Steps
from mlxft.runs.view import RunView, fold, state
from mlxft.storage.atomic_files import write_atomically
from mlxft.storage.regular_files import read_regular

KEPT_NAME: Final = "curves.msgpack"

LEAST_BYTES: Final = 1024 * 1024
"""Journals that have grown by less are read faster than a view is written."""

_FORMAT: Final = 1
"""Raised when what a view holds changes; another format is ignored."""


class _Kept(msgspec.Struct, kw_only=True):
    """All of a view but its log and what is momentary, and how far the journal was read."""

    format: int
    offset: int
    head: bytes
    columns: dict[str, bytes]
    settled: int
    stride: int
    started: ev.RunStarted | None
    backend: ev.BackendReady | None
    model: ev.ModelLoaded | None
    data: ev.DataPrepared | None
    session_start: int
    validations: tuple[ev.ValidationFinished, ...]
    best_validation: ev.ValidationFinished | None
    checkpoints: tuple[ev.CheckpointSaved, ...]
    samples: tuple[ev.SampleAnswered, ...]
    rate_changes: tuple[ev.LearningRateChanged, ...]
    reports: tuple[ev.TrainReported, ...]
    report: ev.TrainReported | None
    peak_memory: int | None
    ending: ev.RunFinished | ev.RunFailed | None
    paused: bool
    step: int
    learning_rate: float | None
    last_time: float | None


_OF_JOURNAL: Final = frozenset(("format", "offset", "head", "columns", "settled", "stride"))
_OF_VIEW: Final = tuple(each for each in _Kept.__struct_fields__ if each not in _OF_JOURNAL)


def compared_view(directory: RunDirectory) -> RunView:
    """A run as its whole journal shows it, but without its log; keeps what took long to read."""
    file = directory.path / KEPT_NAME
    view, position = _kept(file) or (RunView(), (0, b""))
    reader = JournalReader(directory.journal_file, *position)
    if reader.restarted():
        view, position = RunView(), (0, b"")
    view = reduce(fold, reader.batches(), view)
    if reader.position[0] - position[0] >= LEAST_BYTES:
        # A folder that can't be written is read again each time.
        with (
            contextlib.suppress(OSError, UnicodeEncodeError, StorageError, OverflowError),
            lock.taken(file.with_suffix(".lock"), patience=0) as held,
        ):
            if held is not None:  # Another reader writes the same.
                write_atomically(file, _encoded(view, reader.position), durable=False)
    return replace(view, log=()) if view.log else view


def _kept(file: Path) -> tuple[RunView, tuple[int, bytes]] | None:
    """What an earlier call has kept; None if there is nothing usable."""
    try:
        kept = msgspec.msgpack.decode(read_regular(file), type=_Kept)
        columns = {name: array("d", raw) for name, raw in kept.columns.items()}
        steps = Steps(**columns, settled=kept.settled, stride=kept.stride)
    except (OSError, ValueError, TypeError):
        return None
    if kept.format != _FORMAT:
        return None
    view = RunView(steps=steps, **{name: getattr(kept, name) for name in _OF_VIEW})
    return view, (kept.offset, kept.head)


def _encoded(view: RunView, position: tuple[int, bytes]) -> bytes:
    kept = _Kept(
        format=_FORMAT,
        offset=position[0],
        head=position[1],
        columns={name: column.tobytes() for name, column in view.steps.columns().items()},
        settled=view.steps.settled,
        stride=view.steps.stride,
        **{name: getattr(view, name) for name in _OF_VIEW},
    )
    return msgspec.msgpack.encode(kept)


def compared_run(directory: RunDirectory) -> FollowedRun:
    """A run with the view that `compared_view` gives."""
    view = compared_view(directory)
    recipe = recorded_recipe(directory, view.started)
    return FollowedRun(directory, view, state(view, directory.is_live()), recipe)
