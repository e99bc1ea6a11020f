"""Corrected answers that become records of a training set."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mlxft.chat import corrections
from mlxft.chat.corrections import learn, own_data, record_like, records_in
from mlxft.conversation.messages import Message
from mlxft.data.dataset import load_split
from mlxft.errors import StorageError
from mlxft.paths import sample_data

ASKED = Message("user", "Add 7 plums")
ANSWER = Message("assistant", '{"item": "plums"}')
TALK = (ASKED, ANSWER)
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
    def test_it_is_that_of_the_sets_first_record(self) -> None:
        assert record_like("prompt/completion", {}, TALK) == AS_PROMPT
        assert record_like("messages", {}, TALK) == AS_MESSAGES
        assert record_like(None, {}, TALK) == AS_MESSAGES

    def test_what_a_prompt_and_its_completion_can_not_hold_is_messages(self) -> None:
        said = (Message("system", "Be brief."), *TALK)
        record = record_like("prompt/completion", {}, said)
        assert [each["role"] for each in record["messages"]] == ["system", "user", "assistant"]

    def test_fields_keep_the_names_that_the_set_has_for_them(self) -> None:
        columns = {"prompt": "question", "completion": "answer"}
        record = record_like("prompt/completion", columns, TALK)
        assert record == {"question": "Add 7 plums", "answer": '{"item": "plums"}'}

    def test_the_keys_of_messages_do_so_too(self) -> None:
        columns = {"messages": "dialog", "role": "speaker", "content": "utterance"}
        record = record_like("messages", columns, TALK)
        assert record["dialog"][0] == {"speaker": "user", "utterance": "Add 7 plums"}

    def test_roles_are_called_as_the_set_calls_them(self) -> None:
        columns = {"user": "customer", "assistant": "agent", "system": "note"}
        said = (Message("system", "user"), *TALK)
        record = record_like("messages", columns, said)
        assert [each["role"] for each in record["messages"]] == ["system", "customer", "agent"]


class TestSet:
    def test_a_record_is_added_at_the_end(self, tmp_path: Path) -> None:
        file = tmp_path / "train.jsonl"
        file.write_text('{"prompt": "a", "completion": "b"}\n')
        assert learn(tmp_path, {}, TALK).file == file
        assert lines(file)[1:] == [AS_PROMPT]

    @pytest.mark.parametrize(
        ("first", "beside"),
        [
            ({"prompt": "a", "completion": "b"}, "prompt/completion"),
            ({"text": "a"}, "text"),
            (AS_MESSAGES, None),
            (None, None),
        ],
    )
    def test_a_record_of_another_format_than_the_first_is_told(
        self, tmp_path: Path, first: object, beside: str | None
    ) -> None:
        if first is not None:
            (tmp_path / "train.jsonl").write_text(json.dumps(first) + "\n")
        learnt = learn(tmp_path, {}, (Message("system", "Be brief."), *TALK))
        assert learnt.beside == beside
        assert not load_split(tmp_path, "train").faults

    def test_a_table_is_left_as_it_is_and_its_records_go_on_in_lines(self, tmp_path: Path) -> None:
        table = tmp_path / "train.csv"
        table.write_text("prompt,completion\na,b\n")
        first, second = (learn(tmp_path, {}, TALK) for _ in range(2))
        assert table.read_text() == "prompt,completion\na,b\n"
        assert lines(first.file) == [{"prompt": "a", "completion": "b"}, AS_PROMPT, AS_PROMPT]
        assert len(load_split(tmp_path, "train").records) == 3
        assert (first.instead_of, second.instead_of) == (table, None)

    def test_a_single_file_that_is_no_lines_is_refused_in_a_sentence(self, tmp_path: Path) -> None:
        table = tmp_path / "mine.csv"
        table.write_text("prompt,completion\na,b\n")
        with pytest.raises(StorageError, match=r"put it into a folder, as train\.csv"):
            learn(table, {}, TALK)
        assert table.read_text() == "prompt,completion\na,b\n"

    def test_of_the_sample_data_the_project_gets_its_own_copy(self, tmp_path: Path) -> None:
        before = (sample_data() / "train.jsonl").read_bytes()
        data = own_data(sample_data(), tmp_path)
        learn(data, {}, TALK)
        assert data == tmp_path / "data"
        assert (data / "train.jsonl").read_bytes().startswith(before)
        assert lines(data / "train.jsonl")[-1] == AS_PROMPT
        assert (data / "test.jsonl").is_file()
        assert (sample_data() / "train.jsonl").read_bytes() == before

    def test_that_copy_is_gone_on_with(self, tmp_path: Path) -> None:
        for _ in range(2):
            learn(own_data(sample_data(), tmp_path), {}, TALK)
        assert lines(tmp_path / "data" / "train.jsonl")[-2:] == [AS_PROMPT, AS_PROMPT]
        assert records_in(tmp_path / "data" / "train.jsonl") == 302

    def test_records_of_the_users_own_are_left_alone(self, tmp_path: Path) -> None:
        mine = tmp_path / "data" / "valid.jsonl"
        mine.parent.mkdir()
        mine.write_text('{"text": "mine"}\n')
        assert own_data(sample_data(), tmp_path) == tmp_path / "data-2"
        assert own_data(sample_data(), tmp_path) == tmp_path / "data-2"
        assert [each.name for each in mine.parent.iterdir()] == ["valid.jsonl"]
        assert mine.read_text() == '{"text": "mine"}\n'

    def test_the_set_itself_is_no_copy(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sample = shutil.copytree(sample_data(), tmp_path / "data")
        monkeypatch.setattr(corrections, "sample_data", lambda: sample)
        assert own_data(sample, tmp_path) == tmp_path / "data-2"

    def test_a_project_that_can_not_be_written_to_is_a_sentence(self, tmp_path: Path) -> None:
        project = tmp_path / "project"
        project.touch()
        with pytest.raises(StorageError, match="can't be written"):
            own_data(sample_data(), project)

    def test_other_data_is_the_users_own(self, tmp_path: Path) -> None:
        assert own_data(tmp_path / "mine", tmp_path) == tmp_path / "mine"
