"""The data folder: what the trainer takes and what it rejects with an error."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from mlxft import recipe as recipes
from mlxft.data.dataset import load_split, require_trainable, skipped_note
from mlxft.data.token_cache import keep_figures
from mlxft.engine.protocol import MeasureTokens
from mlxft.errors import DataError
from mlxft.recipe import Recipe
from support.records import token_figures

RECORD = {"prompt": "a", "completion": "b"}


def folder(path: Path, **splits: Sequence[object]) -> Path:
    for name, rows in splits.items():
        lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
        (path / f"{name}.jsonl").write_text("".join(line + "\n" for line in lines))
    return path


def refusal(path: Path, *settings: str) -> str:
    settings = ("faulty_records=refuse", *settings)
    with pytest.raises(DataError) as caught:
        require_trainable(path, recipes.apply_settings(Recipe(), settings))
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    return message


class TestSplits:
    def test_valid_records_and_faults_have_their_lines(self, tmp_path: Path) -> None:
        folder(tmp_path, train=[RECORD, "{", RECORD, "", {"text": ""}, RECORD])
        split = load_split(tmp_path, "train")
        assert [record.line for record in split.records] == [1, 3, 6]
        assert [fault.line for fault in split.faults] == [2, 4, 5]
        assert split.records[0].fields == RECORD

    def test_valid_may_be_missing_but_not_train(self, tmp_path: Path) -> None:
        assert load_split(tmp_path, "valid").faults == ()
        assert [fault.kind for fault in load_split(tmp_path, "train").faults] == ["missing file"]

    def test_a_record_after_a_byte_order_mark_is_skipped(self, tmp_path: Path) -> None:
        folder(tmp_path, train=["\ufeff" + json.dumps(RECORD), RECORD])
        split = load_split(tmp_path, "train")
        assert [record.line for record in split.records] == [2]


class TestTrainable:
    def test_a_good_folder_gives_both_splits(self, tmp_path: Path) -> None:
        train, valid = require_trainable(
            folder(tmp_path, train=[RECORD] * 4, valid=[RECORD]), Recipe(train_on="last_answer")
        )
        assert (len(train.records), len(valid.records)) == (4, 1)

    def test_a_missing_folder(self, tmp_path: Path) -> None:
        message = refusal(tmp_path / "nowhere")
        assert message.startswith(f"{tmp_path}/nowhere: this folder doesn't exist; set data")

    def test_a_file_in_place_of_the_folder_is_the_training_set(self, tmp_path: Path) -> None:
        folder(tmp_path, other=[RECORD] * 4, valid=[RECORD])
        train, valid = require_trainable(tmp_path / "other.jsonl", Recipe())
        assert (len(train.records), len(valid.records)) == (4, 0)

    def test_a_folder_of_files_of_any_kind_is_the_training_set(self, tmp_path: Path) -> None:
        folder(tmp_path, one=[RECORD] * 3)
        (tmp_path / "two.csv").write_text("question,answer\na,b\n")
        train, valid = require_trainable(tmp_path, Recipe())
        assert (len(train.records), len(valid.records)) == (4, 0)

    def test_a_folder_without_train_jsonl_names_the_files_it_has(self, tmp_path: Path) -> None:
        assert "there is no train.jsonl; put the records" in refusal(tmp_path)
        folder(tmp_path, data=[RECORD], valid=[RECORD])
        assert "rename the one to train on (data.jsonl, valid.jsonl)" in refusal(tmp_path)

    def test_an_empty_file(self, tmp_path: Path) -> None:
        assert "train.jsonl: the file is empty" in refusal(folder(tmp_path, train=[]))
        folder(tmp_path, train=[RECORD] * 4, valid=[])
        assert "valid.jsonl: the file is empty" in refusal(tmp_path)

    def test_a_broken_record_is_named_with_its_line(self, tmp_path: Path) -> None:
        message = refusal(folder(tmp_path, train=[RECORD] * 5 + [{"prompt": "a"}]))
        assert message == (
            f"{tmp_path}/train.jsonl line 6: the record has no completion; "
            "add it or remove the line."
        )

    def test_the_first_of_many_broken_records_is_named(self, tmp_path: Path) -> None:
        message = refusal(folder(tmp_path, train=[RECORD] * 5 + ["{"] * 3))
        assert "line 6" in message
        assert message.endswith("(2 more faults in this file).")

    def test_a_broken_validation_record_is_named(self, tmp_path: Path) -> None:
        folder(tmp_path, train=[RECORD] * 4, valid=[RECORD, "{"])
        assert "valid.jsonl line 2: " in refusal(tmp_path)

    def test_too_few_records_for_the_batch(self, tmp_path: Path) -> None:
        message = refusal(folder(tmp_path, train=[RECORD] * 3))
        assert message == (
            f"{tmp_path}/train.jsonl: 3 records are too few for a batch of 4; "
            "add records or set batch_size to 1."
        )
        folder(tmp_path, train=[RECORD])
        assert "1 record is too few for a batch of 2" in refusal(tmp_path, "batch_size=2")
        message = refusal(folder(tmp_path, train=[{"text": "a", "weight": 0}]))
        assert "0 records are too few for a batch of 4; add records or let some be" in message

    def test_text_has_no_prompt_to_mask(self, tmp_path: Path) -> None:
        folder(tmp_path, train=[RECORD, {"text": "a"}, {"text": "b"}, RECORD])
        message = refusal(tmp_path, "mask_prompt=true")
        assert "train.jsonl line 2: a text record has no answer" in message
        assert "set train_on to everything" in message
        require_trainable(tmp_path, Recipe())


class TestFaultyRecords:
    def test_they_are_skipped_and_listed(self, tmp_path: Path) -> None:
        folder(tmp_path, train=[RECORD] * 4 + ['{"', {"prompt": "a"}], valid=['{"', RECORD])
        train, valid = require_trainable(tmp_path, Recipe())
        assert [record.line for record in train.records] == [1, 2, 3, 4]
        assert [fault.line for fault in train.faults] == [5, 6]
        assert len(valid.records) == 1
        note = skipped_note(train)
        assert note is not None
        assert "skipping 2 faulty records; first: " in note
        assert "line 5" in note

    def test_records_without_an_answer_to_choose_are_skipped(self, tmp_path: Path) -> None:
        folder(tmp_path, train=[RECORD] * 4 + [{"text": "a"}])
        train, _ = require_trainable(tmp_path, Recipe(train_on="last_answer"))
        assert (len(train.records), len(train.faults)) == (4, 1)

    def test_a_file_with_only_faults_is_rejected(self, tmp_path: Path) -> None:
        folder(tmp_path, train=['{"'] * 4)
        with pytest.raises(DataError, match=r"line 1: .*3 more faults"):
            require_trainable(tmp_path, Recipe())

    def test_too_few_valid_records_name_the_first_fault(self, tmp_path: Path) -> None:
        folder(tmp_path, train=[RECORD, {"prompt": "a"}])
        with pytest.raises(
            DataError, match=r"1 record is too few .* skipping 1 faulty record; first: .*line 2"
        ):
            require_trainable(tmp_path, Recipe())

    def test_no_note_without_faults(self, tmp_path: Path) -> None:
        train, _ = require_trainable(folder(tmp_path, train=[RECORD] * 4), Recipe())
        assert skipped_note(train) is None


class TestTrainedShare:
    def test_none_is_refused_before_the_start_once_it_is_known(self, tmp_path: Path) -> None:
        folder(tmp_path, train=[RECORD] * 4)
        recipe = recipes.apply_settings(Recipe(), ["train_on=last_answer", "max_seq_length=8"])
        require_trainable(tmp_path, recipe)
        command = MeasureTokens(str(tmp_path / "train.jsonl"), recipe)
        found = msgspec.structs.replace(token_figures(command), trained_weight=0.0)
        keep_figures(tmp_path / "train.jsonl", recipe, found)
        with pytest.raises(DataError, match="within max_seq_length 8; raise it or set train_on"):
            require_trainable(tmp_path, recipe)
        require_trainable(tmp_path, recipes.replace(recipe, "train_on", "everything"))
