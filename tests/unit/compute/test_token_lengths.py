"""The lengths of a file's records: a sample first, then all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlxft.compute import token_lengths
from mlxft.compute.token_lengths import measure
from mlxft.compute.tokenization import Tokenizer, load_tokenizer, tokenize
from mlxft.data.token_statistics import TokenLengths, token_figures
from mlxft.recipe import Recipe
from support.models import record

RECIPE = Recipe(train_on="last_answer")


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Tokenizer:
    return load_tokenizer(tiny_model, False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Forty records and a broken line."""
    path = tmp_path / "train.jsonl"
    lines = [json.dumps(record(n)) for n in range(40)]
    path.write_text("\n".join([*lines[:7], "{", *lines[7:]]) + "\n")
    return path


def found(tokenizer: Tokenizer, path: Path, *, whole: bool = True) -> list[TokenLengths]:
    steps = measure(tokenizer, path, RECIPE, whole=whole)
    return [step for step in steps if isinstance(step, TokenLengths)]


class TestVocabulary:
    def test_records_with_tokens_that_the_model_lacks_are_listed(
        self, tokenizer: Tokenizer, file: Path
    ) -> None:
        tokens = [max(tokenize(tokenizer, record(n), RECIPE)[0].tokens) for n in range(40)]
        (lengths,) = (
            step
            for step in measure(tokenizer, file, RECIPE, whole=True, vocabulary=max(tokens))
            if isinstance(step, TokenLengths)
        )
        beyond = [n for n in range(40) if tokens[n] == max(tokens)]
        lines = [n + 1 if n < 7 else n + 2 for n in beyond]
        assert lengths.foreign.tolist() == lines
        assert len(lengths.lengths) == 40 - len(beyond)
        figures = token_figures(lengths, RECIPE, str(file))
        assert figures.refused == len(beyond)
        assert {each.line for each in figures.warnings if each.kind == "vocabulary"} == set(lines)


class TestMeasuring:
    def test_they_equal_the_trainers(self, tokenizer: Tokenizer, file: Path) -> None:
        (lengths,) = found(tokenizer, file)
        theirs = [tokenize(tokenizer, record(n), RECIPE)[0] for n in range(40)]
        assert lengths.lengths.tolist() == [len(each.tokens) for each in theirs]
        assert list(lengths.trained()) == [each.spans for each in theirs]
        assert lengths.whole

    def test_a_pair_whose_answers_are_trained_apart_is_one_record(
        self, tokenizer: Tokenizer, tmp_path: Path
    ) -> None:
        path = tmp_path / "train.jsonl"
        pair = {"prompt": "Is it on?", "chosen": "Yes, the lamp is on.", "rejected": "No."}
        path.write_text(json.dumps(pair) + "\n")
        recipe = Recipe(loss="kto")
        steps = measure(tokenizer, path, recipe, whole=True)
        (lengths,) = (step for step in steps if isinstance(step, TokenLengths))
        figures = token_figures(lengths, recipe)
        assert (figures.records, figures.trained_as) == (1, 2)
        assert figures.tokens == lengths.lengths.sum()

    def test_a_long_file_is_estimated_from_a_sample_first(
        self, tokenizer: Tokenizer, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(token_lengths, "SAMPLE", 10)
        sample, whole = found(tokenizer, file)
        assert len(sample.lengths) <= 10
        assert sample.records == pytest.approx(40, abs=5)
        assert not sample.whole
        assert len(whole.lengths) == 40

    def test_only_a_sample_is_measured_if_requested(
        self, tokenizer: Tokenizer, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(token_lengths, "SAMPLE", 10)
        (sample,) = found(tokenizer, file, whole=False)
        assert len(sample.lengths) <= 10

    def test_others_can_use_the_tokenizer_between_its_steps(
        self, tokenizer: Tokenizer, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(token_lengths, "SLICE_SECONDS", 0)
        steps = list(measure(tokenizer, file, RECIPE, whole=True))
        assert len([step for step in steps if isinstance(step, int)]) > 40
