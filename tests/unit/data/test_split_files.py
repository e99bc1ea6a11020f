"""Files are assigned to splits by the Hub's rule for names and folders."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from mlxft.data.checking import Report, check
from mlxft.data.data_warnings import data_warnings
from mlxft.data.dataset import load_split
from mlxft.data.split_files import SplitName, split_file

HASH = "-a1b2c3d4e5f60718"


def write(folder: Path, *names: str) -> Path:
    """Files with one record each, whose prompt is the file's name."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"prompt": name, "completion": "b"}) + "\n")
    return folder


def read(folder: Path, name: SplitName) -> list[str]:
    return [record.fields["prompt"] for record in load_split(folder, name).records]


@pytest.mark.parametrize(
    ("train", "valid", "test"),
    [
        (["train.jsonl"], ["validation.jsonl"], ["test.jsonl"]),
        (["training.jsonl"], ["val.jsonl"], ["testing.jsonl"]),
        (["train.jsonl"], ["dev.jsonl"], ["eval.jsonl"]),
        (["my_train.jsonl"], ["my-dev.jsonl"], ["my evaluation.jsonl"]),
        (["lamps_train_a.jsonl", "lamps_train_b.jsonl"], [], ["lamps_test.jsonl"]),
        (["Train.v2.jsonl"], [], ["Test.v2.jsonl"]),
        (
            [f"train-00000-of-00002{HASH}.jsonl", "train-00001-of-00002-00ff00ff00ff.jsonl"],
            [],
            [f"test-00000-of-00001{HASH}.jsonl"],
        ),
        (["train/a.jsonl", "train/b.jsonl"], ["validation/a.jsonl"], ["test/a.jsonl"]),
        (["train/deep/a.jsonl", "train/b.jsonl"], [], ["test/a.jsonl"]),
        (["data/train-00000-of-00001.jsonl"], [], ["data/test-00000-of-00001.jsonl"]),
        (["data/train/a.jsonl"], ["data/val/a.jsonl"], ["data/test/train.jsonl"][:0]),
        (["data/a.jsonl", "data/b.jsonl"], [], []),
        (["a.jsonl", "b.jsonl"], [], []),
        (["contrast.jsonl", "devices.jsonl"], [], []),
    ],
)
def test_every_file_is_in_its_split(
    tmp_path: Path, train: list[str], valid: list[str], test: list[str]
) -> None:
    folder = write(tmp_path / "set", *train, *valid, *test)
    (folder / "dataset_infos.json").write_text("{}")
    assert sorted(read(folder, "train")) == sorted(train)
    assert sorted(read(folder, "valid")) == sorted(valid)
    assert sorted(read(folder, "test")) == sorted(test)


class TestPrecedence:
    def test_train_jsonl_stands_alone(self, tmp_path: Path) -> None:
        folder = write(tmp_path, "train.jsonl", "train_more.jsonl", "train.json")
        assert read(folder, "train") == ["train.jsonl"]

    def test_of_several_kinds_of_one_name_the_first_is_read(self, tmp_path: Path) -> None:
        folder = write(tmp_path, "train.json", "validation.jsonl", "valid.json")
        (folder / "train.csv").write_text("prompt,completion\na,b\n")
        assert split_file(folder, "train") == folder / "train.json"
        assert split_file(folder, "valid") == folder / "valid.json"

    def test_the_folder_of_a_project_is_not_searched(self, tmp_path: Path) -> None:
        write(tmp_path, "mine.jsonl", "adapters/run/events.jsonl", "notes/a.jsonl")
        assert read(tmp_path, "train") == ["mine.jsonl"]

    def test_a_test_set_alone_is_never_trained(self, tmp_path: Path) -> None:
        write(tmp_path, "my_test.jsonl")
        assert read(tmp_path, "train") == []
        assert read(tmp_path, "test") == ["my_test.jsonl"]


def save_to_disk(folder: Path, text: str) -> None:
    """The files that `datasets` writes."""
    folder.mkdir(parents=True)
    table = pa.Table.from_pylist([{"prompt": text, "completion": "b"}])
    with pa.ipc.new_stream(str(folder / "data-00000-of-00001.arrow"), table.schema) as file:
        file.write_table(table)
    for name in ("dataset_info.json", "state.json"):
        (folder / name).write_text('{"features": {}}')


class TestSavedDatasets:
    def test_one(self, tmp_path: Path) -> None:
        save_to_disk(tmp_path / "set", "a")
        split = load_split(tmp_path / "set", "train")
        assert (len(split.records), split.faults) == (1, ())

    def test_several_splits(self, tmp_path: Path) -> None:
        for name in ("train", "test"):
            save_to_disk(tmp_path / "set" / name, name)
        (tmp_path / "set" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
        assert read(tmp_path / "set", "train") == ["train"]
        assert read(tmp_path / "set", "test") == ["test"]


def test_a_repeated_record_is_named_with_its_own_file(tmp_path: Path) -> None:
    record = json.dumps({"prompt": "a", "completion": "b"})
    folder = write(tmp_path / "set", "a.jsonl")
    (folder / "b.jsonl").write_text('{"text": "x"}\n' + record + "\n")
    (folder / "c.jsonl").write_text(record + "\n")
    found: list[Report] = []
    check([split_file(folder, "train")], {}, found.append, lambda: True)
    (warning,) = data_warnings(found[-1])
    assert str(warning).startswith(f"{folder}/c.jsonl line 1: the record repeats b.jsonl line 2;")
