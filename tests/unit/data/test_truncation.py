"""Records that are longer than max_seq_length."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxft.data.truncation import pieces
from mlxft.recipe import Overlong


class TestShortRecords:
    @pytest.mark.parametrize("choice", ["truncate", "split", "drop"])
    def test_are_one_piece(self, choice: Overlong) -> None:
        (piece,) = pieces(10, 3, 10, choice)
        assert piece.of(tuple(range(10))) == tuple(range(10))
        assert piece.trained == 7


class TestTruncate:
    def test_keeps_the_end_token(self) -> None:
        (piece,) = pieces(20, 4, 10, "truncate")
        assert piece.of(tuple(range(20))) == (0, 1, 2, 3, 4, 5, 6, 7, 8, 19)
        assert piece.trained == 6

    def test_keeps_whitespace_after_the_end_token(self) -> None:
        (piece,) = pieces(20, 4, 10, "truncate", closing=2)
        assert piece.of(tuple(range(20))) == (0, 1, 2, 3, 4, 5, 6, 7, 18, 19)

    def test_trains_no_end_token_if_the_prompt_fills_the_row(self) -> None:
        (piece,) = pieces(20, 10, 10, "truncate")
        assert piece.of(tuple(range(20))) == tuple(range(10))
        assert piece.trained == 0


class TestDrop:
    def test_leaves_nothing(self) -> None:
        assert pieces(11, 1, 10, "drop") == ()


class TestSplit:
    def test_pieces_share_a_token(self) -> None:
        tokens = tuple(range(24))
        found = [piece.of(tokens) for piece in pieces(24, 1, 10, "split")]
        assert found == [tokens[:10], tokens[9:19], tokens[18:]]

    def test_a_piece_of_the_prompt_trains_nothing(self) -> None:
        assert [piece.trained for piece in pieces(24, 12, 10, "split")] == [0, 7, 5]

    @given(
        length=st.integers(2, 400),
        first_trained=st.integers(1, 400),
        max_seq_length=st.integers(8, 64),
    )
    def test_every_token_is_a_target_exactly_once(
        self, length: int, first_trained: int, max_seq_length: int
    ) -> None:
        first_trained = min(first_trained, length)
        targets = [
            position
            for piece in pieces(length, first_trained, max_seq_length, "split")
            for position in piece.positions(length)[piece.first_trained :]
        ]
        assert targets == list(range(first_trained, length))
        assert all(
            piece.length <= max_seq_length
            for piece in pieces(length, first_trained, max_seq_length, "split")
        )
