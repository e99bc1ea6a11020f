"""Datasets of the Hub are downloaded once, and read as files in a folder would be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from mlxft.data.dataset import load_split
from mlxft.data.hub import fetched, is_hub_id
from mlxft.data.hub_files import configuration, files_by_split
from mlxft.errors import DataError

ROW = {"question": "a", "answer": "é"}


class Hub:
    """A fake Hub that serves files from a folder and counts downloads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.downloads: list[list[str]] = []

    def add(self, name: str, files: dict[str, Any]) -> None:
        """Publish a dataset; contents that aren't text are written as JSON Lines."""
        for file, content in files.items():
            path = self.folder / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = content if isinstance(content, str) else json.dumps(content) + "\n"
            path.write_text(lines)

    def list_repo_files(self, name: str, *, repo_type: str) -> list[str]:
        if not (self.folder / name).exists():
            raise FileNotFoundError(f"{name} doesn't exist on the Hub.\nTraceback")
        root = self.folder / name
        return sorted(str(each.relative_to(root)) for each in root.rglob("*") if each.is_file())

    def snapshot_download(self, name: str, *, repo_type: str, allow_patterns: list[str]) -> str:
        self.downloads.append(allow_patterns)
        return str(self.folder / name)

    def hf_hub_download(self, name: str, file: str, *, repo_type: str) -> str:
        return str(self.folder / name / file)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: made)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", made.snapshot_download)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", made.hf_hub_download)
    return made


CARD = """---
configs:
- config_name: easy
  data_files:
  - {split: train, path: "easy/train-*"}
  - {split: test, path: ["easy/test-*"]}
- config_name: hard
  data_dir: hard
---
# Lamps
"""


class TestFetching:
    @pytest.mark.parametrize(
        ("files", "splits"),
        [
            (["train.jsonl", "validation.jsonl", "extra.jsonl"], ["train.jsonl", "valid.jsonl"]),
            (
                ["data/train_sft-00000-of-00001.jsonl", "data/test_sft-00000-of-00001.jsonl"],
                ["test.jsonl", "train.jsonl"],
            ),
            (["latest.jsonl"], ["train.jsonl"]),
        ],
    )
    def test_splits_become_trainable_files(
        self, hub: Hub, files: list[str], splits: list[str]
    ) -> None:
        hub.add("some/trivia", dict.fromkeys(files, ROW))
        folder = fetched("some/trivia")
        assert sorted(each.name for each in folder.iterdir()) == splits
        (record,) = load_split(folder, "train").records
        assert record.fields == {"prompt": "a", "completion": "é"}

    def test_texts_that_look_like_dates_or_numbers_stay_as_they_are(self, hub: Hub) -> None:
        rows = [{"prompt": "2024-05-01", "completion": "2024-05-01T10:00:00Z"}]
        rows.append({"prompt": "007", "completion": "1e5"})
        hub.add("some/dates", {"train.jsonl": "".join(json.dumps(row) + "\n" for row in rows)})
        hub.add("some/table", {"train.csv": "prompt,completion\n2024-05-01,2024-05-01T10:00:00Z\n"})
        dated = load_split(fetched("some/dates"), "train").records
        assert [each.fields for each in dated] == rows
        assert load_split(fetched("some/table"), "train").records[0].fields == rows[0]

    def test_a_dataset_is_downloaded_once_and_only_its_records(self, hub: Hub) -> None:
        hub.add("some/trivia", {"train.jsonl": ROW, "pictures/a.png": "", "state.json": "{}"})
        assert fetched("some/trivia") == fetched("some/trivia")
        assert hub.downloads == [["train.jsonl"]]

    @pytest.mark.parametrize(
        ("slices", "train", "valid"),
        [
            ("train[:80%],train[-10%:]", range(11), range(13, 14)),
            ("train[3:],validation", range(3, 14), range(20, 22)),
            ("train[:-4],validation[:1]", range(10), range(20, 21)),
        ],
    )
    def test_slices_are_those_that_datasets_takes(
        self, hub: Hub, slices: str, train: range, valid: range
    ) -> None:
        def lines(numbers: range) -> str:
            return "".join(json.dumps({"text": str(each)}) + "\n" for each in numbers)

        files = {"train.jsonl": lines(range(14)), "validation.jsonl": lines(range(20, 22))}
        hub.add("some/slices", files)
        folder = fetched(f"some/slices@{slices}")
        assert (folder / "train.jsonl").read_text() == lines(train)
        assert (folder / "valid.jsonl").read_text() == lines(valid)
        assert len(hub.downloads) == 1

    def test_an_empty_slice_is_an_error(self, hub: Hub) -> None:
        hub.add("some/slices", {"train.jsonl": ROW})
        with pytest.raises(DataError, match=r"train\[:40%\] has no records"):
            fetched("some/slices@train[:40%],train")

    def test_a_card_says_which_files_a_part_has(self, hub: Hub) -> None:
        files = ["easy/train-0.jsonl", "easy/test-0.jsonl", "easy/old.jsonl", "hard/train.jsonl"]
        hub.add("some/lamps", {"README.md": CARD, **dict.fromkeys(files, ROW)})
        easy, hard = fetched("some/lamps:easy"), fetched("some/lamps:hard")
        assert hub.downloads == [files[:2], files[3:]]
        assert (easy / "test.jsonl").exists()
        assert not (hard / "test.jsonl").exists()
        with pytest.raises(DataError, match=r"it has several parts: easy, hard"):
            fetched("some/lamps")
        with pytest.raises(DataError, match=r"it has no part odd, but easy, hard"):
            fetched("some/lamps:odd")

    def test_a_missing_dataset_or_split_is_an_error(self, hub: Hub) -> None:
        with pytest.raises(
            DataError, match=r"can't be downloaded \(some/x doesn't exist on the Hub\)"
        ):
            fetched("some/x")
        hub.add("some/test", {"test.jsonl": ROW})
        with pytest.raises(DataError, match=r"no train split \(test\)"):
            fetched("some/test")
        hub.add("some/pictures", {"a.png": ""})
        with pytest.raises(DataError, match=r"no files of records, such as JSONL"):
            fetched("some/pictures")

    def test_a_broken_file_leaves_nothing_behind(self, hub: Hub) -> None:
        hub.add("some/broken", {"train.json": '[{"prompt": "a"'})
        for _ in range(2):
            with pytest.raises(DataError, match=r"some/broken: invalid JSON in record 1"):
                fetched("some/broken")


class TestCards:
    NAMES = ("data/train-0.jsonl", "data/deep/train-1.jsonl", "data/val.csv", "notes.txt")

    @pytest.mark.parametrize(
        ("config", "found"),
        [
            ({"data_files": "data/train-*"}, {"train": ["data/train-0.jsonl"]}),
            (
                {"data_files": ["data/**/train-*", "notes.txt"]},
                {"train": ["data/train-0.jsonl", "data/deep/train-1.jsonl"]},
            ),
            (
                {"data_files": {"train": "data/train-?.jsonl", "dev": "data/val.csv"}},
                {"train": ["data/train-0.jsonl"], "valid": ["data/val.csv"]},
            ),
            (
                {
                    "data_dir": "data",
                    "data_files": [
                        {"split": "train_gen", "path": "deep/*"},
                        {"split": "train_sft", "path": "train-*"},
                    ],
                },
                {"train": ["data/train-0.jsonl"]},
            ),
            ({"data_dir": "data"}, None),
        ],
    )
    def test_files_are_listed_in_any_documented_way(
        self, config: dict[str, Any], found: dict[str, list[str]] | None
    ) -> None:
        assert files_by_split(config, self.NAMES) == found

    @pytest.mark.parametrize(
        ("configs", "chosen"),
        [
            ([{"config_name": "a"}, {"config_name": "b", "default": True}], "b"),
            ([{"config_name": "a"}, {"config_name": "default"}], "default"),
            ([{"config_name": "a"}], "a"),
        ],
    )
    def test_the_default_part_is_taken(self, configs: list[dict[str, Any]], chosen: str) -> None:
        config = configuration({"configs": configs}, "")
        assert config is not None
        assert config["config_name"] == chosen


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
