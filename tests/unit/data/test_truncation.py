"""Records that are longer than max_seq_length."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxft.data.spans import Span, from_index
from mlxft.data.truncation import pieces
from mlxft.recipe import Overlong


class TestShortRecords:
    @pytest.mark.parametrize("choice", ["truncate", "split", "drop"])
    def test_are_one_piece(self, choice: Overlong) -> None:
        (piece,) = pieces(10, from_index(3, 10), 10, choice)
        assert piece.of(tuple(range(10))) == tuple(range(10))
        assert piece.trained == 7


class TestTruncate:
    def test_keeps_the_end_token(self) -> None:
        (piece,) = pieces(20, from_index(4, 20), 10, "truncate")
        assert piece.of(tuple(range(20))) == (0, 1, 2, 3, 4, 5, 6, 7, 8, 19)
        assert piece.trained == 6

    def test_keeps_whitespace_after_the_end_token(self) -> None:
        (piece,) = pieces(20, from_index(4, 20), 10, "truncate", closing=2)
        assert piece.of(tuple(range(20))) == (0, 1, 2, 3, 4, 5, 6, 7, 18, 19)

    def test_trains_no_end_token_if_the_prompt_fills_the_row(self) -> None:
        (piece,) = pieces(20, from_index(10, 20), 10, "truncate")
        assert piece.of(tuple(range(20))) == tuple(range(10))
        assert piece.trained == 0

    def test_an_earlier_answer_that_is_cut_ends_as_the_last_one_does(self) -> None:
        (piece,) = pieces(20, (Span(2, 4), Span(5, 12, 0.5), Span(15, 20)), 10, "truncate")
        assert piece.of(tuple(range(20))) == (0, 1, 2, 3, 4, 5, 6, 7, 8, 19)
        assert piece.spans == (Span(2, 4), Span(5, 10, 0.5))

    def test_a_question_that_is_cut_gets_no_end(self) -> None:
        (piece,) = pieces(20, (Span(2, 5), Span(15, 20)), 10, "truncate")
        assert piece.of(tuple(range(20))) == tuple(range(10))
        assert piece.spans == (Span(2, 5),)


class TestDrop:
    def test_leaves_nothing(self) -> None:
        assert pieces(11, from_index(1, 11), 10, "drop") == ()


class TestSplit:
    def test_pieces_share_a_token(self) -> None:
        tokens = tuple(range(24))
        found = [piece.of(tokens) for piece in pieces(24, from_index(1, 24), 10, "split")]
        assert found == [tokens[:10], tokens[9:19], tokens[18:]]

    def test_a_piece_of_the_prompt_trains_nothing(self) -> None:
        assert [piece.trained for piece in pieces(24, from_index(12, 24), 10, "split")] == [0, 7, 5]

    @given(
        lengths=st.lists(st.tuples(st.integers(0, 80), st.integers(1, 80)), min_size=1),
        max_seq_length=st.integers(8, 64),
    )
    def test_every_trained_token_is_a_target_exactly_once(
        self, lengths: list[tuple[int, int]], max_seq_length: int
    ) -> None:
        spans: list[Span] = []
        at = 1
        for number, (gap, length) in enumerate(lengths, 1):
            spans.append(Span(at + gap, at + gap + length, float(number)))
            at += gap + length
        found = pieces(at, tuple(spans), max_seq_length, "split")
        targets = [
            (position, weight)
            for piece in found
            for start, stop, weight in piece.spans
            for position in piece.positions(at)[start:stop]
        ]
        assert targets == [(each, span.weight) for span in spans for each in range(*span[:2])]
        assert all(piece.length <= max_seq_length for piece in found)
