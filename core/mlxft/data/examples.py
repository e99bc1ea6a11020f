"""Records as questions: their prompts, with the answers they expect."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import msgspec

from mlxft.conversation.messages import Message
from mlxft.data import formats
from mlxft.data.columns import AS_NAMED, Columns
from mlxft.data.dataset import split_file
from mlxft.data.validation import scan


@dataclass(frozen=True)
class Example:
    """A record's prompt with the answer the record expects, and the place it comes from."""

    messages: tuple[Message, ...]
    expected: str
    place: str

    @property
    def prompt(self) -> str:
        """The last thing said before the answer."""
        return self.messages[-1].content


def examples(folder: Path, columns: Columns = AS_NAMED) -> Iterator[Example]:
    """The prompts of the test set, else of the validation set, in file order."""
    for name in ("test", "valid"):
        path = split_file(folder, "test" if name == "test" else "valid")
        if path.is_file():
            yield from examples_of(path, columns)
            return


def examples_of(
    path: Path, columns: Columns = AS_NAMED, limit: int | None = None
) -> Iterator[Example]:
    """The prompts of a file's records, or of so many first ones.

    Faulty records are left out and not counted, and such that expect no answer left out. Raises
    `OSError`.
    """
    sound = (line for line in scan(path, columns) if line.fields is not None and not line.faults)
    for line in islice(sound, limit):
        example = _example(line.fields or {}, f"{path.name} line {line.number}")
        if example is not None:
            yield example


def _example(fields: formats.Fields, place: str) -> Example | None:
    said = formats.conversation(fields)
    if not said or len(said) < 2 or said[-1].get("role") != "assistant":
        return None
    try:
        *before, expected = msgspec.convert(said, list[Message])
    except msgspec.ValidationError:
        return None
    return Example(tuple(before), expected.content, place)
