"""A record as the trainer sees it: tokens that are trained or masked, kept or cut."""

from __future__ import annotations

import msgspec


class TokenPiece(msgspec.Struct, frozen=True, kw_only=True):
    """One token; `text` is what it decodes to, or the name of a special token.

    `row` is the piece of a split record it belongs to, from 0; `weight` is a trained token's weight
    in the loss.
    """

    id: int
    text: str
    trained: bool
    kept: bool
    special: bool = False
    row: int = 0
    weight: float = 1.0


class TokenView(msgspec.Struct, frozen=True):
    """A record after chat template and tokenizer, exactly as the trainer takes it."""

    pieces: tuple[TokenPiece, ...]
    templated: str
    notes: tuple[str, ...] = ()
    """What to know about how it is trained, a sentence each."""
