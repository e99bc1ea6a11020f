"""Corrected answers become records of a training set."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mlxft.chat import corrections
from mlxft.chat.corrections import add_record, record_like, writable_data
from mlxft.conversation.messages import Message
from mlxft.data.dataset import load_split
from mlxft.data.index import records_in
from mlxft.errors import StorageError
from mlxft.storage.paths import sample_data

PROMPT = Message("user", "Add 7 plums")
ANSWER = Message("assistant", '{"item": "plums"}')
CONVERSATION = (PROMPT, ANSWER)
AS_MESSAGES = {
    "messages": [
        {"role": "user", "content": "Add 7 plums"},
        {"role": "assistant", "content": '{"item": "plums"}'},
    ]
}
AS_PROMPT = {"prompt": "Add 7 plums", "completion": '{"item": "plums"}'}


def lines(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text().splitlines()]


class TestFormat:
    def test_is_that_of_the_first_record(self) -> None:
        assert record_like("prompt/completion", {}, CONVERSATION) == AS_PROMPT
        assert record_like("messages", {}, CONVERSATION) == AS_MESSAGES
        assert record_like(None, {}, CONVERSATION) == AS_MESSAGES

    def test_is_messages_if_prompt_and_completion_can_not_hold_it(self) -> None:
        conversation = (Message("system", "Be brief."), *CONVERSATION)
        record = record_like("prompt/completion", {}, conversation)
        assert [each["role"] for each in record["messages"]] == ["system", "user", "assistant"]

    def test_uses_the_field_names_of_the_set(self) -> None:
        columns = {"prompt": "question", "completion": "answer"}
        record = record_like("prompt/completion", columns, CONVERSATION)
        assert record == {"question": "Add 7 plums", "answer": '{"item": "plums"}'}

    def test_uses_the_message_keys_of_the_set(self) -> None:
        columns = {"messages": "dialog", "role": "speaker", "content": "utterance"}
        record = record_like("messages", columns, CONVERSATION)
        assert record["dialog"][0] == {"speaker": "user", "utterance": "Add 7 plums"}

    def test_uses_the_role_names_of_the_set(self) -> None:
        columns = {"user": "customer", "assistant": "agent", "system": "note"}
        conversation = (Message("system", "user"), *CONVERSATION)
        record = record_like("messages", columns, conversation)
        assert [each["role"] for each in record["messages"]] == ["system", "customer", "agent"]


class TestTrainingSet:
    def test_a_record_is_appended(self, tmp_path: Path) -> None:
        file = tmp_path / "train.jsonl"
        file.write_text('{"prompt": "a", "completion": "b"}\n')
        assert add_record(tmp_path, {}, CONVERSATION).file == file
        assert lines(file)[1:] == [AS_PROMPT]

    @pytest.mark.parametrize(
        ("first", "differs_from"),
        [
            ({"prompt": "a", "completion": "b"}, "prompt/completion"),
            ({"text": "a"}, "text"),
            (AS_MESSAGES, None),
            (None, None),
        ],
    )
    def test_a_record_in_another_format_is_reported(
        self, tmp_path: Path, first: object, differs_from: str | None
    ) -> None:
        if first is not None:
            (tmp_path / "train.jsonl").write_text(json.dumps(first) + "\n")
        added = add_record(tmp_path, {}, (Message("system", "Be brief."), *CONVERSATION))
        assert added.differs_from == differs_from
        assert not load_split(tmp_path, "train").faults

    def test_a_table_is_converted_to_json_lines_and_kept(self, tmp_path: Path) -> None:
        table = tmp_path / "train.csv"
        table.write_text("prompt,completion\na,b\n")
        first, second = (add_record(tmp_path, {}, CONVERSATION) for _ in range(2))
        assert table.read_text() == "prompt,completion\na,b\n"
        assert lines(first.file) == [{"prompt": "a", "completion": "b"}, AS_PROMPT, AS_PROMPT]
        assert len(load_split(tmp_path, "train").records) == 3
        assert (first.replaces, second.replaces) == (table, None)

    def test_a_single_table_is_refused(self, tmp_path: Path) -> None:
        table = tmp_path / "mine.csv"
        table.write_text("prompt,completion\na,b\n")
        with pytest.raises(StorageError, match=r"move it into a folder as train\.csv"):
            add_record(table, {}, CONVERSATION)
        assert table.read_text() == "prompt,completion\na,b\n"

    def test_an_array_that_is_named_json_lines_is_left_alone(self, tmp_path: Path) -> None:
        array = tmp_path / "train.jsonl"
        array.write_text('[{"prompt": "a", "completion": "b"}]')
        with pytest.raises(StorageError, match=r"to an array; rename the file to train\.json"):
            add_record(tmp_path, {}, CONVERSATION)
        assert array.read_text() == '[{"prompt": "a", "completion": "b"}]'

    def test_sample_data_is_copied_into_the_project(self, tmp_path: Path) -> None:
        before = (sample_data() / "train.jsonl").read_bytes()
        data = writable_data(sample_data(), tmp_path)
        add_record(data, {}, CONVERSATION)
        assert data == tmp_path / "data"
        assert (data / "train.jsonl").read_bytes().startswith(before)
        assert lines(data / "train.jsonl")[-1] == AS_PROMPT
        assert (data / "test.jsonl").is_file()
        assert (sample_data() / "train.jsonl").read_bytes() == before

    def test_an_existing_copy_is_used_again(self, tmp_path: Path) -> None:
        for _ in range(2):
            add_record(writable_data(sample_data(), tmp_path), {}, CONVERSATION)
        assert lines(tmp_path / "data" / "train.jsonl")[-2:] == [AS_PROMPT, AS_PROMPT]
        assert records_in(tmp_path / "data" / "train.jsonl") == 302

    def test_the_users_own_records_are_left_alone(self, tmp_path: Path) -> None:
        mine = tmp_path / "data" / "valid.jsonl"
        mine.parent.mkdir()
        mine.write_text('{"text": "mine"}\n')
        assert writable_data(sample_data(), tmp_path) == tmp_path / "data-2"
        assert writable_data(sample_data(), tmp_path) == tmp_path / "data-2"
        assert [each.name for each in mine.parent.iterdir()] == ["valid.jsonl"]
        assert mine.read_text() == '{"text": "mine"}\n'

    def test_the_original_is_no_copy(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        sample = shutil.copytree(sample_data(), tmp_path / "data")
        monkeypatch.setattr(corrections, "sample_data", lambda: sample)
        assert writable_data(sample, tmp_path) == tmp_path / "data-2"

    def test_an_unwritable_project_is_reported(self, tmp_path: Path) -> None:
        project = tmp_path / "project"
        project.touch()
        with pytest.raises(StorageError, match="can't be written"):
            writable_data(sample_data(), project)

    def test_other_data_is_used_directly(self, tmp_path: Path) -> None:
        assert writable_data(tmp_path / "mine", tmp_path) == tmp_path / "mine"
