"""Conversations of a project on disk: what was said, and records to train on made of it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec

from mlxft.conversation.messages import Message, Sampling
from mlxft.data.containers import is_plain
from mlxft.errors import StorageError

HISTORY_NAME = "chat_history.jsonl"

MOST_READ = 8 * 1024 * 1024
"""Bytes of a history that are read, from its end."""


class Expected(msgspec.Struct, frozen=True):
    """The answer that a record expects, and the record's place."""

    text: str
    place: str


class Said(msgspec.Struct, frozen=True):
    """One answered question: the conversation with its answer, who answered, when and how."""

    messages: tuple[Message, ...]
    side: str
    title: str
    """Who answered, in words."""
    model: str
    time: float
    conversation: str
    turn: int
    """The question's number in its conversation, larger than that of any before it."""
    after: int = 0
    """The number of the question that it follows; 0 for a first one."""
    column: int = 0
    """Where the answer stood beside others, from the left."""
    sampling: Sampling = Sampling()
    expected: Expected | None = None
    end: Literal["stop", "length", "cancelled"] = "stop"
    """How the answer ended."""
    alone: bool = False
    """Whether it was asked without what was said before, as an example is or was until edited."""
    attempt: int = 0
    """How often the question had been asked again; the answers of the latest attempt stand."""

    @property
    def prompt(self) -> str:
        """What was asked."""
        return next(each.content for each in reversed(self.messages) if each.role == "user")

    @property
    def answer(self) -> str:
        """What came back."""
        return self.messages[-1].content


def remember(file: Path, said: Said) -> None:
    """Add an answered question to a project's history, which is the user's alone to read.

    Raises `StorageError`.
    """
    _append(file, msgspec.json.encode(said), mode=0o600)


def remembered(file: Path) -> Iterator[Said]:
    """What a project's history holds of late, the oldest first; unreadable lines are left out."""
    try:
        with file.open("rb") as opened:
            opened.seek(max(0, opened.seek(0, os.SEEK_END) - MOST_READ))
            lines = opened.read().splitlines()
    except OSError:
        return
    for line in lines:
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            said = msgspec.json.decode(line, type=Said)
            if any(each.role == "user" for each in said.messages):
                yield said


def record(messages: Sequence[Message]) -> dict[str, Any]:
    """A conversation as a record to train on."""
    return {"messages": [{"role": each.role, "content": each.content} for each in messages]}


def export(file: Path, conversations: Sequence[Sequence[Message]]) -> None:
    """Add conversations to a file of records, one JSON object a line. Raises `StorageError`."""
    if file.is_file() and not is_plain(file):
        raise StorageError(
            f"{file}: only a file of JSON lines can be added to; make one of it with mlxft-tui "
            "split-data."
        )
    for each in conversations:
        append(file, record(each))


def append(file: Path, fields: dict[str, Any]) -> None:
    """Add a record to a file of JSON lines. Raises `StorageError`."""
    _append(file, json.dumps(fields, ensure_ascii=False).encode())


def _append(file: Path, line: bytes, mode: int = 0o666) -> None:
    """Write a line at the end, after one that lacks its own end; a new file has that mode."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "a+b", opener=partial(os.open, mode=mode)) as opened:
            opened.seek(0, os.SEEK_END)
            if opened.tell():
                opened.seek(-1, os.SEEK_END)
                line = line if opened.read(1) == b"\n" else b"\n" + line
            opened.write(line + b"\n")
    except OSError as error:
        raise StorageError(f"{file}: it can't be written ({error.strerror}).") from None
