"""Records as test questions: their prompts with the expected answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import msgspec

from mlxft.conversation.messages import Message
from mlxft.data import formats
from mlxft.data.columns import AS_NAMED, Columns
from mlxft.data.containers import exists
from mlxft.data.split_files import SplitName, split_file
from mlxft.data.validation import scan


@dataclass(frozen=True)
class Example:
    """A record's prompt with its expected answer and the location of the record."""

    messages: tuple[Message, ...]
    expected: str
    place: str

    @property
    def prompt(self) -> str:
        """The last message before the answer."""
        return self.messages[-1].content


def examples(folder: Path, columns: Columns = AS_NAMED) -> Iterator[Example]:
    """The prompts of the test set, or else of the validation set, in file order."""
    if (path := examples_file(folder)) is not None:
        yield from examples_of(path, columns)


def examples_file(folder: Path) -> Path | None:
    """The file of the test set, or else of the validation set; None if both are missing."""
    names: tuple[SplitName, ...] = ("test", "valid")
    return next((path for name in names if exists(path := split_file(folder, name))), None)


def examples_of(
    path: Path, columns: Columns = AS_NAMED, limit: int | None = None
) -> Iterator[Example]:
    """The prompts of a file's first `limit` valid records.

    Records without an expected answer are skipped. Raises `OSError`.
    """
    valid = (line for line in scan(path, columns) if line.trained is not None)
    for line in islice(valid, limit):
        example = _example(line.fields or {}, f"{path.name} line {line.number}")
        if example is not None:
            yield example


def _example(fields: formats.Fields, place: str) -> Example | None:
    messages = formats.conversation(fields)
    if not messages or len(messages) < 2 or messages[-1].get("role") != "assistant":
        return None
    try:
        *before, expected = msgspec.convert(messages, list[Message])
    except msgspec.ValidationError:
        return None
    return Example(tuple(before), expected.content, place)
