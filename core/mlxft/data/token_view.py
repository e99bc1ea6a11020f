"""A record as the trainer sees it: pieces of text, trained or masked, kept or cut."""

from __future__ import annotations

import msgspec


class TokenPiece(msgspec.Struct, frozen=True):
    """One token; `text` is what it decodes to, special tokens by their own name.

    `row` counts the pieces that an overlong record is split into.
    """

    id: int
    text: str
    trained: bool
    kept: bool
    special: bool = False
    row: int = 0


class TokenView(msgspec.Struct, frozen=True):
    """A record through the chat template and tokenizer, in the trainer's own order."""

    pieces: tuple[TokenPiece, ...]
    templated: str
    notes: tuple[str, ...] = ()
    """What to know of how it is trained, a sentence each."""
