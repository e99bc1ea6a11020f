"""An evaluation's results as text."""

from __future__ import annotations

from msgspec.structs import replace

from mlxft.conversation.scores import Case, Evaluation, evaluation, scored
from mlxft_tui.text.evaluation import evaluation_lines


def found(*, cut: bool) -> Evaluation:
    replies = (scored("no", "yes", cut=cut), scored("yes", "yes"))
    case = Case("test.jsonl line 1", "Well?", "yes", replies)
    losses = [("base", 2.0), ("tuned", 1.0)]
    return replace(
        evaluation("test", records=1, tokens=10, losses=losses, cases=[case]), max_tokens=16
    )


class TestOrder:
    def test_the_scores_come_after_the_changed_answers(self) -> None:
        lines = list(evaluation_lines(found(cut=False)))
        assert lines[0] == "test.jsonl line 1: Well?"
        assert lines[-1].startswith("token F1 +100.0 points")
        assert lines.index("1 of 1 answers changed") < lines.index("test: 1 record, 10 tokens")


class TestHeading:
    def test_it_says_if_only_the_first_records_were_used(self) -> None:
        lines = list(evaluation_lines(replace(found(cut=False), of=300)))
        assert "test: the first 1 of 300 records, 10 tokens" in lines


class TestCuts:
    def test_they_are_counted_per_model_with_the_remedy(self) -> None:
        sentence = "cut at 16 tokens: base 1, tuned none, of 1 answer; raise --max-tokens"
        assert sentence in list(evaluation_lines(found(cut=True), "raise --max-tokens"))

    def test_those_of_a_single_model_are_counted(self) -> None:
        replies = (scored("no", "yes", cut=True),)
        cases = [Case(f"test.jsonl line {line}", "Well?", "yes", replies) for line in (1, 2)]
        one = replace(
            evaluation("test", records=2, tokens=10, losses=[("tuned", 1.0)], cases=cases),
            max_tokens=16,
        )
        assert "cut at 16 tokens: 2 of 2 answers" in list(evaluation_lines(one))

    def test_without_any_they_are_not_mentioned(self) -> None:
        assert "cut at" not in "\n".join(evaluation_lines(found(cut=False), "raise --max-tokens"))
