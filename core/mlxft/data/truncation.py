"""Truncate, split or drop records longer than max_seq_length; pure."""

from __future__ import annotations

from dataclasses import dataclass

from mlxft.recipe import Overlong


@dataclass(frozen=True)
class Piece:
    """Tokens of a record that are trained as one sequence: a range and closing tokens."""

    start: int
    stop: int
    first_trained: int
    """Index within the piece, at least 1: nothing predicts its first token."""
    closing: int = 0
    """How many of the record's last tokens are appended to the range."""

    @property
    def length(self) -> int:
        return self.stop - self.start + self.closing

    @property
    def trained(self) -> int:
        """How many of its tokens are targets."""
        return max(0, self.length - self.first_trained)

    def positions(self, length: int) -> tuple[int, ...]:
        """The positions of its tokens in a record of this length."""
        return (*range(self.start, self.stop), *range(length - self.closing, length))

    def of(self, tokens: tuple[int, ...]) -> tuple[int, ...]:
        """The piece of a record's tokens."""
        return tokens[self.start : self.stop] + tokens[len(tokens) - self.closing :]


def pieces(
    length: int, first_trained: int, max_seq_length: int, overlong: Overlong, closing: int = 1
) -> tuple[Piece, ...]:
    """The pieces of a record of `length` tokens that are trained; none if it is dropped.

    A truncated record keeps its last `closing` tokens, with the end token: a model that never sees
    one never learns to stop. A split record is trained completely; each piece begins with the last
    token of the previous one, so that every token is a target once.
    """
    if length <= max_seq_length:
        return (Piece(0, length, first_trained),)
    match overlong:
        case "truncate":
            closing = min(closing, max_seq_length - 1)
            # If only the prompt fits, a lone end token is not an answer to train.
            kept = closing if first_trained < max_seq_length - closing else 0
            return (Piece(0, max_seq_length - kept, first_trained, kept),)
        case "split":
            starts = range(0, length - 1, max_seq_length - 1)
            return tuple(
                Piece(start, min(start + max_seq_length, length), max(1, first_trained - start))
                for start in starts
            )
        case "drop":
            return ()
