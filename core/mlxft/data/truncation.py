"""Truncate, split or drop records longer than max_seq_length; pure."""

from __future__ import annotations

from dataclasses import dataclass

from mlxft.data import spans
from mlxft.data.spans import Span, Spans
from mlxft.recipe import Overlong


@dataclass(frozen=True)
class Piece:
    """Tokens of a record that are trained as one sequence: a range and closing tokens."""

    start: int
    stop: int
    spans: Spans
    """The trained tokens, by indices within the piece."""
    closing: int = 0
    """How many of the record's last tokens are appended to the range."""

    @property
    def length(self) -> int:
        return self.stop - self.start + self.closing

    @property
    def trained(self) -> int:
        """How many of its tokens are targets."""
        return spans.count(self.spans)

    def positions(self, length: int) -> tuple[int, ...]:
        """The positions of its tokens in a record of this length."""
        return (*range(self.start, self.stop), *range(length - self.closing, length))

    def of(self, tokens: tuple[int, ...]) -> tuple[int, ...]:
        """The piece of a record's tokens."""
        return tokens[self.start : self.stop] + tokens[len(tokens) - self.closing :]


def pieces(
    length: int, trained: Spans, max_seq_length: int, overlong: Overlong, closing: int = 1
) -> tuple[Piece, ...]:
    """The pieces of a record of `length` tokens that are trained; none if it is dropped.

    A record truncated within an answer keeps its last `closing` tokens, with the end token: a model
    that never sees one never learns to stop. A split record is trained completely; each piece
    begins with the last token of the previous one, so that every token is a target once.
    """
    if length <= max_seq_length:
        return (Piece(0, length, trained),)
    match overlong:
        case "truncate":
            return (_truncated(length, trained, max_seq_length, closing),)
        case "split":
            starts = range(0, length - 1, max_seq_length - 1)
            return tuple(_split_at(start, length, trained, max_seq_length) for start in starts)
        case "drop":
            return ()


def _truncated(length: int, trained: Spans, max_seq_length: int, closing: int) -> Piece:
    closing = min(closing, max_seq_length - 1)
    cut = max_seq_length - closing
    within = next((each for each in trained if each.start < cut < each.stop), None)
    # A lone end token is no answer to train, nor does a question end with one.
    if within is None:
        return Piece(0, max_seq_length, tuple(spans.clipped(trained, 0, max_seq_length)))
    # The end belongs to the answer that is cut, which may not be the last.
    ends = (
        Span(start, stop, within.weight)
        for start, stop, _ in spans.clipped(trained, length - closing, length, to=cut)
    )
    return Piece(0, cut, spans.joined((*spans.clipped(trained, 0, cut), *ends)), closing)


def _split_at(start: int, length: int, trained: Spans, max_seq_length: int) -> Piece:
    stop = min(start + max_seq_length, length)
    return Piece(start, stop, tuple(spans.clipped(trained, start + 1, stop, to=1)))
