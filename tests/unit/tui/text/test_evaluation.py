"""What the command that judges a run tells."""

from __future__ import annotations

from msgspec.structs import replace

from mlxft.conversation.scores import Case, Evaluation, evaluation, judged
from mlxft_tui.text.evaluation import told


def found(*, cut: bool) -> Evaluation:
    replies = (judged("no", "yes", cut=cut), judged("yes", "yes"))
    case = Case("test.jsonl line 1", "Well?", "yes", replies)
    losses = [("base", 2.0), ("tuned", 1.0)]
    return replace(evaluation("test", 1, 10, losses, [case]), max_tokens=16)


class TestOrder:
    def test_the_table_comes_after_the_changed_answers(self) -> None:
        lines = list(told(found(cut=False)))
        assert lines[0] == "test.jsonl line 1: Well?"
        assert lines[-1].startswith("token F1 +100.0 points")
        assert lines.index("1 of 1 answers changed") < lines.index("test: 1 record, 10 tokens")


class TestHeading:
    def test_it_tells_that_only_the_first_records_were_taken(self) -> None:
        told_of = list(told(replace(found(cut=False), of=300)))
        assert "test: the first 1 of 300 records, 10 tokens" in told_of


class TestCuts:
    def test_they_are_counted_for_each_side_with_the_remedy(self) -> None:
        sentence = "cut at 16 tokens: base 1, tuned none, of 1 answer; raise --max-tokens"
        assert sentence in list(told(found(cut=True), "raise --max-tokens"))

    def test_of_one_side_they_are_so_many_of_all(self) -> None:
        replies = (judged("no", "yes", cut=True),)
        cases = [Case(f"test.jsonl line {line}", "Well?", "yes", replies) for line in (1, 2)]
        one = replace(evaluation("test", 2, 10, [("tuned", 1.0)], cases), max_tokens=16)
        assert "cut at 16 tokens: 2 of 2 answers" in list(told(one))

    def test_without_any_nothing_is_said(self) -> None:
        assert "cut at" not in "\n".join(told(found(cut=False), "raise --max-tokens"))
