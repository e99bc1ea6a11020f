"""A journal on a disk that fills up and is freed again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlxft.errors import StorageError
from mlxft.runs import events as ev
from mlxft.runs.journal import JournalReader, JournalWriter


class TestFullDisk:
    def test_a_cut_line_spoils_nothing_after_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        writer = JournalWriter(tmp_path / "events.jsonl")
        writer.append(ev.Warned(message="first"))
        write = os.write
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", lambda file, data: write(file, data[:10]))
            with pytest.raises(StorageError, match="free disk space"):
                writer.append(ev.Warned(message="cut"))
        writer.append(ev.Warned(message="last"))
        writer.close()
        read = JournalReader(tmp_path / "events.jsonl").read()
        assert [each.message for each in read if isinstance(each, ev.Warned)] == ["first", "last"]
