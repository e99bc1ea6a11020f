"""A walk through the prompts of a test set, which is read no further than one has come."""

from __future__ import annotations

from pathlib import Path

from mlxft.data.columns import Columns
from mlxft.data.examples import Example, examples


class ExamplePrompts:
    """Forwards and backwards through the examples of a data folder."""

    def __init__(self, folder: Path, columns: Columns) -> None:
        self.place = (folder, columns)
        """Where the examples are, and how their fields are called."""
        self._coming = examples(folder, columns)
        self._seen: list[Example] = []
        self._at = -1

    def step(self, by: int) -> Example | None:
        """The next example (1), or the one before (-1); None where there is none at all.

        After the last comes the first; before the first, the last that was seen, and the walk
        begins with the first either way.
        """
        self._at += by if self._seen else 1
        if self._at == len(self._seen) and (example := next(self._coming, None)) is not None:
            self._seen.append(example)
        if not self._seen:
            self._at = -1
            return None
        self._at %= len(self._seen)
        return self._seen[self._at]
