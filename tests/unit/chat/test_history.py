"""The chat history and exported conversations on disk."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import msgspec
import pytest

from mlxft.chat import history
from mlxft.chat.history import HistoryEntry, export, remember, remembered, remembered_prompts
from mlxft.conversation.messages import Message
from mlxft.data.dataset import load_split
from mlxft.errors import StorageError

CONVERSATION = (Message("user", "Grüß dich"), Message("assistant", "Hallo"))


def entry(time: float = 1.0, prompt: str = "Grüß dich") -> HistoryEntry:
    return HistoryEntry(
        messages=(Message("user", prompt), Message("assistant", "Hallo")),
        answerer="base",
        title="base",
        model="demo",
        time=time,
        conversation="c",
        turn=1,
    )


class TestHistory:
    def test_entries_are_read_back_in_order(self, tmp_path: Path) -> None:
        file = tmp_path / "adapters" / "history.jsonl"
        entries = [entry(time) for time in (1.0, 2.0)]
        for each in entries:
            remember(file, each)
        assert list(remembered(file)) == entries
        assert entries[0].prompt == "Grüß dich"

    def test_each_prompt_is_recalled_once_where_it_was_used_last(self, tmp_path: Path) -> None:
        file = tmp_path / "history.jsonl"
        for prompt in ("One", "Two", "One"):
            remember(file, entry(prompt=prompt))
        assert remembered_prompts(file) == ["Two", "One"]

    def test_only_the_user_may_read_it(self, tmp_path: Path) -> None:
        file = tmp_path / "history.jsonl"
        remember(file, entry(1.0))
        assert file.stat().st_mode & 0o777 == 0o600

    def test_a_conversation_is_deleted_and_nothing_else(self, tmp_path: Path) -> None:
        file = tmp_path / "history.jsonl"
        other = msgspec.structs.replace(entry(2.0, prompt='about "c"'), conversation="d")
        file.touch(0o600)
        file.write_text('{"half\n')
        for each in (entry(1.0), other, entry(3.0)):
            remember(file, each)
        history.delete(file, "c")
        assert list(remembered(file)) == [other]
        assert file.read_text().startswith('{"half\n')
        assert file.stat().st_mode & 0o777 == 0o600
        remember(file, entry(4.0))
        assert [each.time for each in remembered(file)] == [2.0, 4.0]

    def test_a_line_keeps_its_format(self, tmp_path: Path) -> None:
        file = tmp_path / "history.jsonl"
        remember(file, entry())
        assert json.loads(file.read_text())["side"] == "base"

    def test_an_unreadable_line_is_skipped(self, tmp_path: Path) -> None:
        file = tmp_path / "history.jsonl"
        file.write_text('{"messages": 1}\n{"half')
        remember(file, entry(1.0))
        assert [each.messages for each in remembered(file)] == [CONVERSATION]

    def test_only_the_end_of_a_long_history_is_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(history, "MOST_READ", 1000)
        file = tmp_path / "history.jsonl"
        for number in range(20):
            remember(file, entry(float(number)))
        found = [each.time for each in remembered(file)]
        assert found == [float(number) for number in range(20)][-len(found) :]
        assert 1 < len(found) < 20

    def test_an_endlessly_nested_line_is_skipped(self, tmp_path: Path) -> None:
        file = tmp_path / "history.jsonl"
        file.write_bytes(b'{"messages":' + b"[" * 5000 + b"]" * 5000 + b"}\n")
        remember(file, entry(7.0))
        assert [each.time for each in remembered(file)] == [7.0]

    def test_a_project_without_a_history_has_no_entries(self, tmp_path: Path) -> None:
        assert list(remembered(tmp_path / "none.jsonl")) == []


class TestExport:
    def test_a_conversation_becomes_a_valid_record(self, tmp_path: Path) -> None:
        export(tmp_path / "train.jsonl", [CONVERSATION, CONVERSATION])
        split = load_split(tmp_path, "train")
        assert not split.faults
        assert len(split.records) == 2

    def test_an_unfinished_last_line_is_ended_first(self, tmp_path: Path) -> None:
        file = tmp_path / "train.jsonl"
        file.write_text('{"text": "one"}')
        export(file, [CONVERSATION])
        first, second = file.read_text().splitlines()
        assert json.loads(first) == {"text": "one"}
        assert json.loads(second)["messages"][0]["content"] == "Grüß dich"

    def test_a_table_is_refused(self, tmp_path: Path) -> None:
        table = tmp_path / "train.csv"
        table.write_text("prompt,completion\n")
        with pytest.raises(StorageError, match="only be added to a JSON lines file"):
            export(table, [CONVERSATION])
        assert table.read_text() == "prompt,completion\n"

    def test_a_full_disk_leaves_no_torn_record(self, tmp_path: Path) -> None:
        """A limit on the file size acts like a full disk."""
        file = tmp_path / "export.jsonl"
        export(file, [CONVERSATION])
        before, limits = file.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 9, limits[1]))
        try:
            with pytest.raises(StorageError, match="can't be written"):
                export(file, [CONVERSATION])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert file.read_bytes() == before

    def test_an_unwritable_file_is_reported(self, tmp_path: Path) -> None:
        with pytest.raises(StorageError, match="can't be written"):
            export(tmp_path, [CONVERSATION])
