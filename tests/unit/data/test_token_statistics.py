"""A file's token figures, and their cache."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mlxft import recipe as recipes
from mlxft.data import token_cache
from mlxft.data.spans import Span
from mlxft.data.token_figures import TokenFigures
from mlxft.data.token_statistics import (
    END_ADDED,
    PROMPT_APART,
    SPAN_ROW,
    TokenLengths,
    token_figures,
)
from mlxft.recipe import Recipe
from mlxft.storage.paths import cache_dir

RECIPE = recipes.apply_settings(Recipe(model="m"), ["max_seq_length=100", "batch_size=2"])


def lengths(*values: int, first_trained: int = 10, records: int | None = None) -> TokenLengths:
    return TokenLengths(
        lengths=np.array(values, np.uint32),
        spans=np.array(
            [
                (at, first_trained, value, 1.0)
                for at, value in enumerate(values)
                if first_trained < value
            ],
            SPAN_ROW,
        ),
        records=len(values) if records is None else records,
        lines=np.arange(1, len(values) + 1, dtype=np.uint32),
        marks=np.zeros(len(values), np.uint32),
    )


class TestPositions:
    @pytest.mark.parametrize(
        ("limit", "overlong", "counted"),
        [(200, "truncate", " (2 records)"), (150, "drop", ""), (100, "truncate", None)],
    )
    def test_records_longer_than_the_model_was_made_for_are_named(
        self, limit: int, overlong: str, counted: str | None
    ) -> None:
        settings = [f"max_seq_length={limit}", f"overlong={overlong}"]
        recipe = recipes.apply_settings(RECIPE, settings)
        found = token_figures(lengths(20, 120, 180), recipe, "train.jsonl", positions=100)
        said = [each.problem for each in found.warnings if each.kind == "positions"]
        if counted is None:
            assert said == []
        else:
            assert said == [f"the record has 120 tokens, the model 100 positions{counted}"]


class TestWarnings:
    def test_each_names_its_line_and_fix(self) -> None:
        found = replace(
            lengths(20, 130, 5, 20),
            marks=np.array([END_ADDED, 0, 0, END_ADDED | PROMPT_APART], np.uint32),
            refused=np.array([7], np.uint32),
            unmasked=np.array([9], np.uint32),
        )
        figures = token_figures(found, RECIPE, "train.jsonl")
        assert figures.refused == 1
        assert [(each.kind, each.line) for each in figures.warnings] == [
            ("template", 7),
            ("no prompt", 9),
            ("untrained", 3),
            ("too long", 2),
            ("prompt", 4),
            ("no end", 1),
        ]
        assert "130 tokens, 30 more than max_seq_length, which are truncated" in str(
            figures.warnings[3]
        )
        assert "(2 records)" in str(figures.warnings[5])


class TestFigures:
    def test_sums_and_truncation_follow_the_recipe(self) -> None:
        found = token_figures(lengths(20, 40, 130, 5), RECIPE)
        assert found.whole
        assert (found.records, found.tokens, found.longest) == (4, 195, 130)
        assert found.trained_tokens == 10 + 30 + 90
        assert (found.overlong, found.lost_tokens, found.untrainable) == (1, 30, 1)
        assert found.steps_per_epoch == 2
        assert found.tokens_spread == 0
        assert sum(each.count for each in found.bins) == 4

    def test_trained_tokens_and_their_weights_are_summed_apart(self) -> None:
        spans = np.array([(0, 5, 10, 0.5), (0, 15, 120, 2.0), (1, 1, 20, 1.0)], SPAN_ROW)
        found = token_figures(replace(lengths(120, 20), spans=spans), RECIPE)
        # The first record is cut at 100 tokens and keeps its end token.
        assert found.trained_tokens == 5 + 85 + 19
        assert found.trained_weight == 2.5 + 170 + 19

    def test_padding_is_the_batch_plans(self) -> None:
        assert token_figures(lengths(17, 17), RECIPE).padding_share == 0
        assert token_figures(lengths(33, 17), RECIPE).padding_share == pytest.approx(16 / 66)

    def test_a_sample_estimates_the_whole_within_its_interval(self) -> None:
        chance = np.random.default_rng(0)
        whole = chance.integers(20, 300, 20_000)
        sample = chance.choice(whole, 400, replace=False)
        found = token_figures(lengths(*sample.tolist(), records=20_000), RECIPE)
        assert not found.whole
        assert abs(found.tokens - whole.sum()) < found.tokens_spread * 2
        assert 0.01 < found.tokens_spread / found.tokens < 0.1
        assert found.steps_per_epoch == 10_000

    def test_no_records(self) -> None:
        found = token_figures(lengths(), RECIPE)
        assert (found.tokens, found.longest, found.bins) == (0, 0, ())


class TestCache:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        path = tmp_path / "train.jsonl"
        path.write_text('{"text": "a"}\n')
        return path

    @pytest.fixture
    def model(self, tmp_path: Path) -> Path:
        folder = tmp_path / "model"
        folder.mkdir()
        (folder / "tokenizer.json").write_text("{}")
        return folder

    def test_lengths_are_cached(self, file: Path, model: Path) -> None:
        assert token_cache.kept_lengths(file, model, RECIPE) is None
        token_cache.keep_lengths(file, model, RECIPE, lengths(3, 14))
        kept = token_cache.kept_lengths(file, model, RECIPE)
        assert kept is not None
        assert kept.lengths.tolist() == [3, 14]
        assert list(kept.trained()) == [(), (Span(10, 14),)]
        assert kept.whole

    def test_cached_lengths_of_a_record_trained_as_two_are_those_of_one(
        self, file: Path, model: Path
    ) -> None:
        found = replace(lengths(20, 40, records=1), lines=np.array([1, 1], np.uint32))
        token_cache.keep_lengths(file, model, RECIPE, found)
        kept = token_cache.kept_lengths(file, model, RECIPE)
        assert kept is not None
        assert token_figures(kept, RECIPE) == token_figures(found, RECIPE)

    @pytest.mark.parametrize("setting", ["mask_prompt=true", "columns={prompt: q}"])
    def test_lengths_depend_on_the_recipe(self, file: Path, model: Path, setting: str) -> None:
        token_cache.keep_lengths(file, model, RECIPE, lengths(3))
        other = recipes.apply_settings(RECIPE, [setting])
        assert token_cache.kept_lengths(file, model, other) is None

    def test_a_changed_file_or_tokenizer_invalidates_the_cache(
        self, file: Path, model: Path
    ) -> None:
        for changed in (file, model / "tokenizer.json"):
            token_cache.keep_lengths(file, model, RECIPE, lengths(3))
            os.utime(changed, ns=(1, 1))
            assert token_cache.kept_lengths(file, model, RECIPE) is None

    def test_figures_depend_on_the_recipe(self, file: Path) -> None:
        figures = token_figures(lengths(20, 40), RECIPE)
        token_cache.keep_figures(file, RECIPE, figures)
        assert token_cache.kept_figures(file, RECIPE) == figures
        other = recipes.replace(RECIPE, "batch_size", 3)
        assert token_cache.kept_figures(file, other) is None

    def test_the_oldest_entries_are_removed(
        self, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(token_cache, "KEPT", 3)
        figures: TokenFigures = token_figures(lengths(20), RECIPE)
        for size in range(1, 8):
            token_cache.keep_figures(file, recipes.replace(RECIPE, "batch_size", size), figures)
        assert len(list((cache_dir() / "tokens").iterdir())) == 3

    def test_a_broken_cache_is_ignored(self, file: Path, model: Path) -> None:
        token_cache.keep_lengths(file, model, RECIPE, lengths(3))
        token_cache.keep_figures(file, RECIPE, token_figures(lengths(3), RECIPE))
        for each in (cache_dir() / "tokens").iterdir():
            each.write_bytes(b"PK\x03\x04 broken")
        assert token_cache.kept_lengths(file, model, RECIPE) is None
        assert token_cache.kept_figures(file, RECIPE) is None
