"""What comparing records needs of them, packed so that many are compared at once; without numpy."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Final, NamedTuple

from mlxft.data.formats import Identity

MAX_CHARACTERS: Final = 200_000
"""Characters after which records are packed: their texts stay in the processor's cache."""

COMPARED: Final = 20_000
"""Characters of a record that are compared with those of others."""


class PackedRecords(NamedTuple):
    """Some records of a file, in order."""

    lines: bytes = b""
    """The line of each record, in 4 bytes."""
    digests: bytes = b""
    """Python's hash of each record, in 8 bytes: the same in all processes of a check."""
    prompts: bytes = b""
    """The hash of what is before each record's last answer, in 8 bytes; 0 where no user has asked
    anything."""
    sizes: bytes = b""
    """The size of each text, in 4 bytes."""
    texts: bytes = b""
    """The beginning of each record in small letters; those of ASCII may be capitals."""


class RecordPacker:
    """Collects records until there are enough."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._lines = array("I")
        self._digests = array("q")
        self._prompts = array("q")
        self._texts: list[bytes] = []
        self._characters = 0

    @property
    def full(self) -> bool:
        """Whether there are enough."""
        return self._characters > MAX_CHARACTERS

    def add(self, line: int, identity: Identity) -> None:
        """Add a record."""
        text = identity.text
        self._lines.append(line)
        self._digests.append(hash(text))
        self._prompts.append(_prompt(identity))
        if len(text) > COMPARED or not text.isascii():
            # Capitals of ASCII are lowered later, those of many records at once.
            text = text[:COMPARED].lower()
        encoded = text.encode("utf-8", "replace")
        self._texts.append(encoded)
        self._characters += len(encoded)

    def take(self) -> PackedRecords:
        """The records so far; the next ones are collected from scratch."""
        sizes = array("I", map(len, self._texts)).tobytes()
        packed = PackedRecords(
            lines=self._lines.tobytes(),
            digests=self._digests.tobytes(),
            prompts=self._prompts.tobytes(),
            sizes=sizes,
            texts=b"".join(self._texts),
        )
        self._clear()
        return packed


def count_contradictions(identities: Iterable[Identity]) -> int:
    """How many records answer an earlier one's prompt differently."""
    first: dict[int, int] = {}
    return sum(
        first.setdefault(_prompt(each), hash(each.text)) != hash(each.text)
        for each in identities
        if each.answer_at
    )


def _prompt(identity: Identity) -> int:
    """A hash of what is before the last answer."""
    return hash(identity.text[: identity.answer_at]) if identity.answer_at else 0
