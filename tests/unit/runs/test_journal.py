"""The journal: one writer, any number of readers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlxft.errors import StorageError
from mlxft.runs import events as ev
from mlxft.runs import journal
from mlxft.runs.journal import JournalReader, JournalWriter
from mlxft.runs.view import (
    RunView,
    fold,
)


def started(start_step: int = 0, **recipe: int) -> ev.RunStarted:
    return ev.RunStarted(
        run="r-1", pid=1, host="mac", recipe=recipe, iters=100, start_step=start_step
    )


def trained(step: int, loss: float = 2.0, seconds: float = 0.5) -> ev.StepFinished:
    return ev.StepFinished(step=step, loss=loss, tokens=50, seconds=seconds, learning_rate=1e-4)


class TestJournal:
    def test_events_are_numbered_timed_and_read_back(self, tmp_path: Path) -> None:
        writer = JournalWriter(tmp_path / "events.jsonl", clock=lambda: 7.0)
        writer.append(started())
        writer.append(trained(1))
        first, second = JournalReader(tmp_path / "events.jsonl").read()
        assert (first.seq, second.seq, second.time) == (1, 2, 7.0)
        assert isinstance(second, ev.StepFinished)

    def test_a_reader_gets_each_event_once(self, tmp_path: Path) -> None:
        writer = JournalWriter(tmp_path / "events.jsonl")
        reader = JournalReader(tmp_path / "events.jsonl")
        assert reader.read() == []
        writer.append(trained(1))
        assert len(reader.read()) == 1
        assert reader.read() == []

    def test_a_partial_line_is_read_once_complete(self, tmp_path: Path) -> None:
        path = tmp_path / "events.jsonl"
        line = ev.encode(trained(1)) + b"\n"
        path.write_bytes(line + line[:20])
        reader = JournalReader(path)
        assert len(reader.read()) == 1
        with path.open("ab") as file:
            file.write(line[20:])
        assert len(reader.read()) == 1

    def test_a_truncated_journal_is_read_from_its_beginning(self, tmp_path: Path) -> None:
        path = tmp_path / "events.jsonl"
        path.write_bytes(b"".join(ev.encode(trained(step)) + b"\n" for step in range(1, 9)))
        reader = JournalReader(path)
        assert len(reader.read()) == 8
        path.write_bytes(ev.encode(trained(1)) + b"\n")
        assert [each.step for each in reader.read() if isinstance(each, ev.StepFinished)] == [1]

    def test_a_replaced_journal_is_read_from_its_beginning(self, tmp_path: Path) -> None:
        path = tmp_path / "events.jsonl"
        writer = JournalWriter(path, clock=lambda: 1.0)
        writer.append(started())
        reader = JournalReader(path)
        reader.read()
        assert not reader.restarted()
        path.unlink()
        writer = JournalWriter(path, clock=lambda: 2.0)
        for event in (started(), trained(1)):
            writer.append(event)
        assert reader.restarted()
        assert [each.time for each in reader.read()] == [2.0, 2.0]

    def test_a_torn_line_of_a_killed_engine_spoils_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "events.jsonl"
        JournalWriter(path).append(trained(1))
        with path.open("ab") as file:
            file.write(b'{"event":"step_fin')
        JournalWriter(path).append(trained(2))
        events = JournalReader(path).read()
        assert [each.step for each in events if isinstance(each, ev.StepFinished)] == [1, 2]
        assert [each.seq for each in events] == [1, 2]

    def test_the_last_event_is_written_even_on_a_full_disk(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path, write = tmp_path / "events.jsonl", os.write

        def full(descriptor: int, line: bytes) -> int:
            if (tmp_path / journal.RESERVE_NAME).exists():
                return write(descriptor, line[:10])
            return write(descriptor, line)

        writer = JournalWriter(path)
        writer.append(started())
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(StorageError, match="free disk space"):
            writer.append(trained(1))
        writer.append(ev.RunFailed(message="The disk is full.", step=0, log="l"))
        assert [type(each) for each in JournalReader(path).read()] == [ev.RunStarted, ev.RunFailed]

    def test_a_truncated_line_spoils_nothing_after_it(
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

    def test_a_closed_journal_leaves_no_reserve(self, tmp_path: Path) -> None:
        writer = JournalWriter(tmp_path / "events.jsonl")
        writer.append(started())
        writer.close()
        assert [each.name for each in tmp_path.iterdir()] == ["events.jsonl"]

    def test_a_long_journal_is_read_in_batches_without_loss(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(journal, "BATCH_BYTES", 500)
        path = tmp_path / "events.jsonl"
        lines = [ev.encode(trained(step)) for step in range(1, 51)]
        path.write_bytes(b"\n".join(lines) + b"\n" + lines[0][:20])
        reader = JournalReader(path)
        batches = list(reader.batches())
        assert len(batches) > 5
        assert [each.step for batch in batches for each in batch] == list(range(1, 51))  # type: ignore[union-attr]
        assert reader.read() == []

    @pytest.mark.parametrize(
        "line",
        [
            b'{"event":"warned","message":"x","z":' + b"[" * 5000 + b"]" * 5000 + b"}",
            ev.encode(trained(1)).replace(b'"step":1', b'"step":' + b"9" * 400),
            ev.encode(trained(1)).replace(b'"tokens":50', b'"tokens":' + b"9" * 400),
            ev.encode(trained(1)).replace(b'"time":0.0', b'"time":1e300'),
            ev.encode(trained(1)).replace(b'"seconds":0.5', b'"seconds":1e308'),
        ],
    )
    def test_an_unusable_line_is_skipped(self, tmp_path: Path, line: bytes) -> None:
        path = tmp_path / "events.jsonl"
        path.write_bytes(line + b"\n" + ev.encode(trained(2)) + b"\n")
        (event,) = JournalReader(path).read()
        assert fold(RunView(), [started(), event]).step == 2

    def test_a_failure_in_an_older_journal_has_no_cause(self) -> None:
        line = b'{"event":"run_failed","seq":9,"time":1.0,"message":"m","step":3,"log":"l"}'
        failed = ev.decode(line)
        assert isinstance(failed, ev.RunFailed)
        assert failed.cause is None

    def test_an_event_of_a_newer_version_is_skipped(self, tmp_path: Path) -> None:
        path = tmp_path / "events.jsonl"
        path.write_bytes(b'{"event":"from_the_future","seq":1}\n' + ev.encode(trained(1)) + b"\n")
        assert len(JournalReader(path).read()) == 1
