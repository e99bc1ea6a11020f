"""The benchmarks' records of numbers, as the trainer reads them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlxft.compute.training.batches import tokenize_split
from mlxft.data.dataset import load_split
from mlxft.recipe import Recipe

BENCHMARKS = Path(__file__).parents[4] / "benchmarks"


@pytest.fixture
def comparison(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The script that compares trainers."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import train_vs_mlx_lm

    yield train_vs_mlx_lm
    for name in ("train_vs_mlx_lm", "random_models"):
        sys.modules.pop(name, None)


def test_each_number_is_a_token_and_an_end_follows(comparison: Any, tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(json.dumps({"text": "7 7 12"}) + "\n")
    split = load_split(tmp_path, "train")
    tokenized = tokenize_split(comparison.NumberTokenizer(), split, Recipe(), seed=0)
    assert [list(each.tokens) for each in tokenized.sequences] == [[7, 7, 12, 0]]
