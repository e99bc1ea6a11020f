"""Datasets of the Hub are downloaded once, as JSON Lines."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlxft.data.dataset import load_split
from mlxft.data.hub import fetched, is_hub_id
from mlxft.errors import DataError

ROWS = [{"question": "a", "answer": "é"}]


class Hub:
    """A fake `datasets` library that records its calls."""

    def __init__(self, **sets: dict[str, list[dict[str, Any]]]) -> None:
        self.sets = sets
        self.asked: list[tuple[str, str | None]] = []

    def load_dataset(self, name: str, part: str | None) -> dict[str, list[dict[str, Any]]]:
        self.asked.append((name, part))
        if name.partition("/")[2] not in self.sets:
            raise FileNotFoundError(f"{name} doesn't exist on the Hub.\nTraceback")
        return self.sets[name.partition("/")[2]]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    monkeypatch.setenv("MLXFT_CACHE", str(tmp_path / "cache"))
    made = Hub(
        trivia={"train": ROWS, "validation": ROWS, "extra": ROWS},
        chat={"train_sft": ROWS, "test_sft": ROWS},
        lone={"latest": [{"question": b"a", "answer": "é".encode()}]},
        odd={"a": ROWS, "b": ROWS},
    )
    library = SimpleNamespace(load_dataset=made.load_dataset, disable_progress_bars=lambda: None)
    monkeypatch.setitem(sys.modules, "datasets", library)  # type: ignore[arg-type]
    return made


class TestFetching:
    @pytest.mark.parametrize(
        ("name", "files"),
        [
            ("some/trivia", ["train.jsonl", "valid.jsonl"]),
            ("some/chat", ["test.jsonl", "train.jsonl"]),
            ("some/lone", ["train.jsonl"]),
        ],
    )
    def test_splits_become_trainable_files(self, hub: Hub, name: str, files: list[str]) -> None:
        folder = fetched(name)
        assert sorted(each.name for each in folder.iterdir()) == files
        (record,) = load_split(folder, "train").records
        assert record.fields == {"prompt": "a", "completion": "é"}

    def test_a_dataset_is_downloaded_once(self, hub: Hub) -> None:
        assert fetched("some/trivia") == fetched("some/trivia")
        assert hub.asked == [("some/trivia", None)]

    def test_a_configuration_is_another_dataset(self, hub: Hub) -> None:
        assert fetched("some/trivia:main") != fetched("some/trivia")
        assert hub.asked == [("some/trivia", "main"), ("some/trivia", None)]

    def test_a_missing_dataset_or_split_is_an_error(self, hub: Hub) -> None:
        with pytest.raises(
            DataError, match=r"can't be downloaded \(some/x doesn't exist on the Hub\)"
        ):
            fetched("some/x")
        with pytest.raises(DataError, match=r"no train split \(a, b\)"):
            fetched("some/odd")

    def test_a_missing_library_is_named(self, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "datasets", None)  # type: ignore[arg-type]
        with pytest.raises(DataError, match=r"pip install 'mlxft-tui\[datasets\]'"):
            fetched("some/trivia")


class TestIds:
    @pytest.mark.parametrize(
        ("text", "is_id"),
        [
            ("openai/gsm8k", True),
            ("openai/gsm8k:main", True),
            ("data", False),
            ("./data", False),
            ("../data", False),
            ("data/train.jsonl", False),
            ("data/more/train", False),
            ("/data/train", False),
            ("there/already", False),
        ],
    )
    def test_paths_are_not_ids(self, tmp_path: Path, text: str, is_id: bool) -> None:
        (tmp_path / "there" / "already").mkdir(parents=True)
        assert is_hub_id(text, tmp_path) is is_id
