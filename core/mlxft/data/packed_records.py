"""What comparing records needs of them, packed so that many are compared at once; without numpy."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable
from typing import Final, NamedTuple

MAX_CHARACTERS: Final = 200_000
"""Characters after which records are packed: their texts stay in the processor's cache."""

COMPARED: Final = 20_000
"""Characters of a record that are compared with those of others."""


class PackedRecords(NamedTuple):
    """Some records of a file, in order."""

    lines: bytes = b""
    """The line of each record, in 4 bytes."""
    digests: bytes = b""
    """8 bytes of each record, equal for equal ones."""
    prompts: bytes = b""
    """8 bytes of what is before each record's last answer, equal for equal ones; 0 where no user
    has asked anything."""
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
        self._digests: list[bytes] = []
        self._prompts: list[bytes] = []
        self._texts: list[bytes] = []
        self._characters = 0

    @property
    def full(self) -> bool:
        """Whether there are enough."""
        return self._characters > MAX_CHARACTERS

    def add(self, line: int, identity: str) -> None:
        """Add a record, given a text that is equal for equal ones."""
        encoded = identity.encode()
        self._lines.append(line)
        digest, prompt = _digests(encoded)
        self._digests.append(digest)
        self._prompts.append(prompt)
        if len(encoded) > COMPARED or not identity.isascii():
            # Capitals of ASCII are lowered later, those of many records at once.
            encoded = identity[:COMPARED].lower().encode("utf-8", "replace")
        self._texts.append(encoded)
        self._characters += len(encoded)

    def take(self) -> PackedRecords:
        """The records so far; the next ones are collected from scratch."""
        sizes = array("I", map(len, self._texts)).tobytes()
        digests, prompts = b"".join(self._digests), b"".join(self._prompts)
        texts = b"".join(self._texts)
        packed = PackedRecords(self._lines.tobytes(), digests, prompts, sizes, texts)
        self._clear()
        return packed


def count_contradictions(identities: Iterable[str]) -> int:
    """How many records answer an earlier one's prompt differently."""
    first: dict[bytes, bytes] = {}
    found = (_digests(identity.encode()) for identity in identities)
    return sum(
        first.setdefault(prompt, digest) != digest
        for digest, prompt in found
        if prompt != _NO_PROMPT
    )


_NO_PROMPT: Final = bytes(8)


def _digests(identity: bytes) -> tuple[bytes, bytes]:
    """Of a record, and of its prompt."""
    end = _prompt_end(identity)
    # Files may be read by different processes, where Python's own hashes differ.
    digest = hashlib.blake2b(identity[:end], digest_size=8)
    prompt = digest.digest() if end else _NO_PROMPT
    digest.update(identity[end:])
    return digest.digest(), prompt


def _prompt_end(identity: bytes) -> int:
    """Where the last answer begins; 0 where no user has asked anything."""
    end = max(identity.rfind(b"\0completion \0"), identity.rfind(b"\0assistant \0"))
    asked = any(identity.find(label, 0, end) >= 0 for label in (b"prompt \0", b"user \0"))
    return end if end > 0 and asked else 0
