"""What was said, kept and made into records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlxft.chat import history
from mlxft.chat.history import Said, export, remember, remembered
from mlxft.conversation.messages import Message
from mlxft.data.dataset import load_split
from mlxft.errors import StorageError

TALK = (Message("user", "Grüß dich"), Message("assistant", "Hallo"))


class TestHistory:
    def test_what_was_said_comes_back_in_order(self, tmp_path: Path) -> None:
        file = tmp_path / "adapters" / "history.jsonl"
        said = [Said(TALK, "base", "base", "demo", time, "c", 1) for time in (1.0, 2.0)]
        for each in said:
            remember(file, each)
        assert list(remembered(file)) == said
        assert said[0].prompt == "Grüß dich"

    def test_it_is_the_users_alone_to_read(self, tmp_path: Path) -> None:
        file = tmp_path / "history.jsonl"
        remember(file, Said(TALK, "base", "base", "demo", 1.0, "c", 1))
        assert file.stat().st_mode & 0o777 == 0o600

    def test_a_line_that_can_not_be_read_is_left_out(self, tmp_path: Path) -> None:
        file = tmp_path / "history.jsonl"
        file.write_text('{"messages": 1}\n{"half')
        remember(file, Said(TALK, "base", "base", "demo", 1.0, "c", 1))
        assert [each.messages for each in remembered(file)] == [TALK]

    def test_of_a_long_history_the_end_is_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(history, "MOST_READ", 1000)
        file = tmp_path / "history.jsonl"
        for number in range(20):
            remember(file, Said(TALK, "base", "base", "demo", float(number), "c", 1))
        found = [each.time for each in remembered(file)]
        assert found == [float(number) for number in range(20)][-len(found) :]
        assert 1 < len(found) < 20

    def test_a_line_that_nests_without_end_is_left_out(self, tmp_path: Path) -> None:
        file = tmp_path / "history.jsonl"
        file.write_bytes(b'{"messages":' + b"[" * 5000 + b"]" * 5000 + b"}\n")
        remember(file, Said(TALK, "base", "base", "demo", 7.0, "c", 1))
        assert [each.time for each in remembered(file)] == [7.0]

    def test_a_project_without_one_has_none(self, tmp_path: Path) -> None:
        assert list(remembered(tmp_path / "none.jsonl")) == []


class TestExport:
    def test_a_conversation_is_a_record_that_can_be_trained(self, tmp_path: Path) -> None:
        export(tmp_path / "train.jsonl", [TALK, TALK])
        split = load_split(tmp_path, "train")
        assert not split.faults
        assert len(split.records) == 2

    def test_a_last_line_without_its_end_is_not_joined_to(self, tmp_path: Path) -> None:
        file = tmp_path / "train.jsonl"
        file.write_text('{"text": "one"}')
        export(file, [TALK])
        first, second = file.read_text().splitlines()
        assert json.loads(first) == {"text": "one"}
        assert json.loads(second)["messages"][0]["content"] == "Grüß dich"

    def test_nothing_is_added_to_a_table(self, tmp_path: Path) -> None:
        table = tmp_path / "train.csv"
        table.write_text("prompt,completion\n")
        with pytest.raises(StorageError, match="only a file of JSON lines can be added to"):
            export(table, [TALK])
        assert table.read_text() == "prompt,completion\n"

    def test_a_file_that_can_not_be_written_is_a_sentence(self, tmp_path: Path) -> None:
        with pytest.raises(StorageError, match="can't be written"):
            export(tmp_path, [TALK])
