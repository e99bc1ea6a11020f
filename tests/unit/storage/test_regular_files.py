"""Files are read without waiting for a pipe, and no further than they may go."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mlxft.chat.history import remembered
from mlxft.comparison.labels import NONE, read_labels
from mlxft.comparison.summary_cache import SummaryCache
from mlxft.engine import address
from mlxft.errors import MlxftError
from mlxft.queue.store import QueueStore
from mlxft.recipe.edits import RecipeEdits
from mlxft.recipe.files import load_of_run
from mlxft.runs.death import cause_of_death
from mlxft.runs.directory import RunDirectory
from mlxft.runs.journal import JournalReader, JournalWriter
from mlxft.runs.lock import is_taken
from mlxft.storage.regular_files import LARGEST_CONFIG, read_config
from mlxft.sweep.plan import read_sweep
from mlxft.sweep.record import read_record
from mlxft.watching import notifications


def read_queue(pipe: Path) -> object:
    """Read a queue whose file is this pipe."""
    pipe.rename(pipe.with_name("queue.json"))
    return QueueStore(pipe.parent).read()


@pytest.mark.parametrize(
    "read",
    [load_of_run, notifications.load, read_sweep, read_record, read_queue, JournalWriter],
    ids=lambda f: f.__name__,
)
def test_a_pipe_in_place_of_a_file_is_refused(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(MlxftError, match=r"pipe|queue\.json"):
        read(tmp_path / "pipe")


def test_a_pipe_in_place_of_what_may_be_missing_is_as_if_it_were(tmp_path: Path) -> None:
    for name in ("events.jsonl", "labels.json", "rows", "undo", "lock", "address", "chat", "log"):
        os.mkfifo(tmp_path / name)
    assert JournalReader(tmp_path / "events.jsonl").read() == []
    assert read_labels(RunDirectory(tmp_path)) == NONE
    assert SummaryCache(tmp_path / "rows").get("run", (None, None)) is None
    assert not is_taken(tmp_path / "lock")
    assert address.read(RunDirectory(tmp_path)) == RunDirectory(tmp_path).socket_file
    assert list(remembered(tmp_path / "chat")) == []
    assert cause_of_death(tmp_path / "log") is None
    edits = RecipeEdits(tmp_path / "recipe.yaml")
    edits.restore_undo(tmp_path / "undo")
    assert not edits.can_undo


def test_a_device_and_a_large_file_are_refused_and_line_ends_are_one(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="it is no file"):
        read_config(Path("/dev/zero"))
    file = tmp_path / "file"
    file.write_bytes(b"a\r\nb")
    assert read_config(file) == "a\nb"
    file.write_bytes(b"x" * (LARGEST_CONFIG + 1))
    with pytest.raises(OSError, match="more than 1 MB"):
        read_config(file)
