"""Kills work at each of its writes in turn, without a process of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import mlx.core as mx

_AUDITED = (
    "os.link",
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.symlink",
    "os.truncate",
)

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_JOURNALED = (b'"checkpoint_saved"', b'"run_finished"')


class KilledError(BaseException):
    """The process is gone."""


@dataclass
class Writes:
    """Counts the writes under a folder, and kills before one or after one by its name.

    A dead process writes nothing more: every later write fails too, in clean-up code as well.
    """

    folder: Path
    kill_at: int | None = None
    kill_after: str | None = None
    done: list[str] = field(default_factory=list)
    """What was written, as ``rename adapters.safetensors``."""

    def count(self, what: str, path: object) -> None:
        """A write is about to happen; ignored elsewhere than under the folder."""
        if isinstance(path, int):  # A descriptor: the file is counted already.
            return
        name = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        if os.path.isabs(name) and not name.startswith(str(self.folder)):
            return
        late = self.kill_at is not None and len(self.done) >= self.kill_at
        if late or self.kill_after in self.done:
            raise KilledError(what, name)
        self.done.append(f"{what} {Path(name).name}")


_active: list[Writes] = []


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _active:
        return
    if event in _AUDITED:
        _active[-1].count(event.removeprefix("os."), arguments[0])
    elif event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING:
        _active[-1].count("open", arguments[0])


sys.addaudithook(_audit)


@contextmanager
def killed_at(folder: Path, number: int | None, after: str | None = None) -> Iterator[Writes]:
    """Die before this write under the folder, counted from 0, or after one; with None only count.

    Of a journal's lines only those count that end a save or the run; each is written in halves.
    """
    writes = Writes(folder, number, after)
    write, save = os.write, mx.save_safetensors

    def write_in_halves(descriptor: int, data: bytes) -> int:
        if not any(tag in data for tag in _JOURNALED):
            return write(descriptor, data)
        half = len(data) // 2
        writes.count("write half a line", "")
        write(descriptor, data[:half])
        writes.count("write its rest", "")
        return half + write(descriptor, data[half:])

    def save_safetensors(file: str, *arguments: Any) -> None:
        writes.count("save", file)
        save(file, *arguments)

    _active.append(writes)
    try:
        with (
            mock.patch.object(os, "write", write_in_halves),
            mock.patch.object(mx, "save_safetensors", save_safetensors),
        ):
            yield writes
    finally:
        _active.remove(writes)
