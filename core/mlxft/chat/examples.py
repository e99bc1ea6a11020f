"""Steps through the prompts of a test set, reading the file only as far as needed."""

from __future__ import annotations

from pathlib import Path

from mlxft.data.columns import Columns
from mlxft.data.examples import Example, examples, examples_file


def no_examples(folder: Path) -> str:
    """Why a data folder has no example, and what to do."""
    if (file := examples_file(folder)) is not None:
        return f"{file}: no record of this file has a prompt and an answer."
    return (
        f"{folder}: test.jsonl and valid.jsonl are missing; the Data screen can hold out "
        "records for them."
    )


class ExamplePrompts:
    """A cursor over the examples of a data folder."""

    def __init__(self, folder: Path, columns: Columns) -> None:
        self.source = (folder, columns)
        """The data folder and the names of its fields."""
        self._unread = examples(folder, columns)
        self._read: list[Example] = []
        self._at = -1

    def step(self, by: int) -> Example | None:
        """The next example (1) or the previous one (-1); None if the set has none.

        The first follows the last. Before the first comes the last one read so far. The first call
        returns the first example either way.
        """
        self._at += by if self._read else 1
        if self._at == len(self._read) and (example := next(self._unread, None)) is not None:
            self._read.append(example)
        if not self._read:
            self._at = -1
            return None
        self._at %= len(self._read)
        return self._read[self._at]
