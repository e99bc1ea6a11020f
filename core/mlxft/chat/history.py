"""A project's chat history and exported conversations on disk."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import json
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from mlxft.conversation.messages import Message, Sampling
from mlxft.data.containers import is_plain
from mlxft.errors import StorageError
from mlxft.runs.lock import is_at
from mlxft.storage.atomic_files import write_atomically
from mlxft.storage.regular_files import open_regular

HISTORY_NAME: Final = "chat_history.jsonl"

MOST_READ: Final = 8 * 1024 * 1024
"""Bytes of a history that are read, from its end."""


class Expected(msgspec.Struct, frozen=True):
    """The answer a record expects, and where the record is."""

    text: str
    place: str


class HistoryEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An answered prompt, as a line of the history."""

    messages: tuple[Message, ...]
    """The conversation, ending with the answer."""
    answerer: str = msgspec.field(name="side")
    """`Answerer` as text."""
    title: str
    """The answerer's title at the time."""
    model: str
    time: float
    conversation: str
    turn: int
    """The prompt's number, larger than that of any earlier one."""
    after: int = 0
    """The number of the prompt before it; 0 for a first one."""
    column: int = 0
    """The answer's column, from the left."""
    sampling: Sampling = Sampling()
    expected: Expected | None = None
    end: Literal["stop", "length", "cancelled"] = "stop"
    """How the answer ended."""
    alone: bool = False
    """Whether it was sent without the conversation so far, as examples are."""
    attempt: int = 0
    """How often the prompt had been retried; only the latest attempt is shown."""

    @property
    def prompt(self) -> str:
        """The last user message."""
        return next(each.content for each in reversed(self.messages) if each.role == "user")

    @property
    def answer(self) -> str:
        """The answer with its thinking."""
        return self.messages[-1].content


def remember(file: Path, entry: HistoryEntry) -> None:
    """Append to a project's history, which only the user may read. Raises `StorageError`."""
    append_line(file, msgspec.json.encode(entry), mode=0o600)


def remembered(file: Path) -> Iterator[HistoryEntry]:
    """The latest entries of a project's history, oldest first; unreadable lines are skipped."""
    try:
        with open_regular(file) as opened:
            opened.seek(max(0, opened.seek(0, os.SEEK_END) - MOST_READ))
            lines = opened.read().splitlines()
    except OSError:
        return
    for line in lines:
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            entry = msgspec.json.decode(line, type=HistoryEntry)
            if any(each.role == "user" for each in entry.messages):
                yield entry


def remembered_prompts(file: Path) -> list[str]:
    """The prompts of a project's history, each once, the one used last at the end."""
    latest_first = [entry.prompt for entry in remembered(file)][::-1]
    return list(dict.fromkeys(latest_first))[::-1]


def record(messages: Sequence[Message]) -> dict[str, Any]:
    """A conversation as a training record."""
    return {"messages": [{"role": each.role, "content": each.content} for each in messages]}


def export(file: Path, conversations: Sequence[Sequence[Message]]) -> None:
    """Append conversations to a JSON lines file. Raises `StorageError`."""
    if file.is_file() and not is_plain(file):
        raise StorageError(
            f"{file}: records can only be added to a JSON lines file; convert it with mlxft-tui "
            "split-data."
        )
    for each in conversations:
        append(file, record(each))


def append(file: Path, fields: dict[str, Any]) -> None:
    """Append a record to a JSON lines file. Raises `StorageError`."""
    append_line(file, as_line(fields))


def as_line(fields: dict[str, Any]) -> bytes:
    """A record as a line of a JSON lines file, without its end."""
    return json.dumps(fields, ensure_ascii=False).encode()


def delete(file: Path, conversation: str) -> None:
    """Remove a conversation from a history. Raises `StorageError`."""
    wanted = msgspec.json.encode(conversation)

    def is_kept(line: bytes) -> bool:
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return wanted not in line or _name.decode(line).conversation != conversation
        return True

    try:
        with _held(file, 0o600) as opened:
            opened.seek(0)
            lines = opened.readall().splitlines(keepends=True)
            write_atomically(file, b"".join(line for line in lines if is_kept(line)))
    except OSError as error:
        raise StorageError(f"{file}: can't be written ({error.strerror}).") from None


class _Name(msgspec.Struct, frozen=True):
    """The part of a history's line that says which conversation it is of."""

    conversation: str


_name: Final = msgspec.json.Decoder(_Name)


@contextlib.contextmanager
def _held(file: Path, mode: int) -> Iterator[io.FileIO]:
    """The file opened for appending, which no other viewer appends to or replaces meanwhile."""
    while True:
        with open(file, "a+b", buffering=0, opener=partial(os.open, mode=mode)) as opened:
            fcntl.flock(opened, fcntl.LOCK_EX)
            if is_at(opened.fileno(), file):
                yield opened
                return


def append_line(file: Path, line: bytes, mode: int = 0o666) -> None:
    """Append a line in one write, ending the one before if needed; `mode` is a new file's.

    Raises `StorageError`.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with _held(file, mode) as opened:
            size = opened.seek(0, os.SEEK_END)
            if size:
                opened.seek(-1, os.SEEK_END)
                line = line if opened.read(1) == b"\n" else b"\n" + line
            if opened.write(line + b"\n") != len(line) + 1:
                opened.truncate(size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise StorageError(f"{file}: can't be written ({error.strerror}).") from None
