"""Records as questions: their prompts, with the answers they expect."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mlxft.conversation import Message
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


def examples_of(path: Path, columns: Columns = AS_NAMED) -> Iterator[Example]:
    """The prompts of a file of records; faulty ones, and those that expect no answer, are left out.

    Raises `OSError`.
    """
    for line in scan(path, columns):
        if line.fields is not None and not line.faults:
            example = _example(line.fields, f"{path.name} line {line.number}")
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
