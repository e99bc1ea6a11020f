"""Scores of answers."""

from __future__ import annotations

import math

import pytest

from mlxft.conversation.scores import Case, evaluation, gain, is_exact, scored, token_f1


def case(expected: str, *replies: str) -> Case:
    return Case("line 1", "prompt", expected, tuple(scored(each, expected) for each in replies))


class TestScores:
    def test_surrounding_whitespace_is_ignored(self) -> None:
        assert is_exact(" yes\n", "yes")
        assert not is_exact("Yes", "yes")

    @pytest.mark.parametrize(
        ("text", "expected", "f1"),
        [
            ("a b c", "a b c", 1.0),
            ("a b", "c d", 0.0),
            ("a b c d", "a b", 2 / 3),
            ("a a", "a", 2 / 3),
            ("", "", 1.0),
            ("", "a", 0.0),
            ('{"a": 1}', '{"a": 2}', 6 / 7),
        ],
    )
    def test_f1_counts_words_and_symbols(self, text: str, expected: str, f1: float) -> None:
        assert token_f1(text, expected) == pytest.approx(f1)

    def test_perplexity_is_the_exponential_of_the_loss(self) -> None:
        found = evaluation("test", records=1, tokens=10, losses=[("base", 2.0)], cases=[])
        assert found.scores[0].perplexity == pytest.approx(math.exp(2))


class TestGain:
    def test_the_interval_contains_the_mean_and_narrows_with_more_records(self) -> None:
        before = [0.0, 1.0, 0.0, 0.0] * 5
        after = [1.0, 1.0, 1.0, 0.0] * 5
        few, many = gain(before, after), gain(before * 20, after * 20)
        assert few.mean == many.mean == 0.5
        assert few.low < 0.5 < few.high
        assert many.high - many.low < few.high - few.low

    def test_equal_answers_gain_nothing(self) -> None:
        found = gain([1.0, 0.0], [1.0, 0.0])
        assert (found.mean, found.low, found.high) == (0, 0, 0)

    def test_is_deterministic(self) -> None:
        assert gain([0.0, 1.0, 0.0], [1.0, 1.0, 0.0]) == gain([0.0, 1.0, 0.0], [1.0, 1.0, 0.0])


class TestEvaluation:
    def test_the_second_model_is_compared_with_the_first(self) -> None:
        cases = [case("a", "b", "a"), case("c", "c", "c")]
        found = evaluation(
            "test", records=2, tokens=10, losses=[("base", 2.0), ("tuned", 1.0)], cases=cases
        )
        assert [each.exact_match for each in found.scores] == [0.5, 1.0]
        assert found.exact_match_gain is not None
        assert found.exact_match_gain.mean == 0.5

    def test_equal_answers_are_not_changed(self) -> None:
        cases = [case("a", "b", "a"), case("c", "c", "c ")]
        found = evaluation(
            "test", records=2, tokens=10, losses=[("base", 2.0), ("tuned", 1.0)], cases=cases
        )
        assert found.changed == (cases[0],)

    def test_a_single_model_has_no_gain(self) -> None:
        found = evaluation(
            "test", records=1, tokens=10, losses=[("tuned", 1.0)], cases=[case("a", "a")]
        )
        assert found.exact_match_gain is None
        assert found.changed == ()
