"""Evaluations of a tiny model on a few records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlxft.compute.evaluation import EvaluationCancelledError, Stage, evaluate
from mlxft.compute.generation import batches
from mlxft.compute.generation.chat_model import ChatModel
from mlxft.conversation.messages import Sampling
from mlxft.conversation.scores import Evaluation
from mlxft.errors import DataError
from mlxft.recipe import Recipe


@pytest.fixture
def data(tmp_path: Path) -> Path:
    records = [{"prompt": f"Lamp {number}", "completion": "on"} for number in range(3)]
    lines = "".join(json.dumps(each) + "\n" for each in records)
    (tmp_path / "test.jsonl").write_text(lines)
    return tmp_path


def evaluated(
    model: Path, data: Path, *, cancel_after: int = 1000, limit: int | None = None
) -> tuple[Evaluation, list[tuple[Stage, int, int]]]:
    """The base model's evaluation and its progress."""
    steps: list[tuple[Stage, int, int]] = []
    found = evaluate(
        ChatModel(model),
        Recipe(model="tiny"),
        data,
        "test",
        [("base", None)],
        sampling=Sampling(max_tokens=4),
        on_progress=lambda *step: steps.append(step),
        cancelled=lambda: len(steps) >= cancel_after,
        limit=limit,
    )
    return found, steps


class TestEvaluate:
    def test_the_first_records_are_scored_and_progress_is_reported(
        self, tiny_model: Path, data: Path
    ) -> None:
        found, steps = evaluated(tiny_model, data, limit=2)
        assert (found.records, found.of, len(found.cases)) == (2, 3, 2)
        assert found.cut == (2,)
        assert steps == [
            ("evaluating", 0, 2),
            ("evaluating", 1, 2),
            ("evaluating", 2, 2),
            ("answering", 0, 2),
            ("answering", 1, 2),
            ("answering", 2, 2),
        ]

    @pytest.mark.parametrize("steps", [1, 5])
    def test_nothing_is_kept_when_it_is_cancelled_before_the_first_answer(
        self, tiny_model: Path, data: Path, steps: int
    ) -> None:
        with pytest.raises(EvaluationCancelledError):
            evaluated(tiny_model, data, cancel_after=steps)

    def test_the_answers_so_far_are_kept_when_it_is_cancelled(
        self, tiny_model: Path, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(batches, "MOST_ROWS", 1)
        found, _ = evaluated(tiny_model, data, cancel_after=6)
        whole, _ = evaluated(tiny_model, data)
        assert (len(found.cases), found.unanswered, whole.unanswered) == (1, 2, 0)
        assert found.cases == whole.cases[:1]
        assert found.scores[0].loss == whole.scores[0].loss

    def test_a_split_without_trained_tokens_is_reported(
        self, tiny_model: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "test.jsonl").write_text('{"text": ""}\n')
        with pytest.raises(DataError):
            evaluated(tiny_model, tmp_path)

    def test_a_missing_split_is_called_missing(self, tiny_model: Path, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"test\.jsonl: this file is missing"):
            evaluated(tiny_model, tmp_path)
