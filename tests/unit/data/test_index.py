"""The line index gives access to any record of a file of any size."""

from __future__ import annotations

import gc
import json
import os
import tracemalloc
from collections import deque
from pathlib import Path

import pytest

from mlxft.data import index as indexing
from mlxft.data.index import LineIndex
from mlxft.errors import DataError


def indexed(path: Path) -> LineIndex:
    index = LineIndex(path)
    deque(index.build(), 0)
    return index


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Ten thousand records of uneven length."""
    path = tmp_path / "train.jsonl"
    with path.open("w") as file:
        for number in range(10_000):
            file.write(json.dumps({"text": f"{number} " + "é" * (number % 97)}) + "\n")
    return path


class TestAccess:
    def test_any_line_has_its_record_and_number(self, many: Path) -> None:
        with indexed(many) as index:
            assert len(index) == 10_000
            for position in (0, 1, 4_321, 9_999):
                line = index.line(position)
                assert line.number == position + 1
                assert line.fields is not None
                assert line.fields["text"].startswith(f"{position} ")

    @pytest.mark.parametrize(
        ("content", "lines"),
        [
            (b"", []),
            (b"\n", [b"\n"]),
            (b"a", [b"a"]),
            (b"a\n", [b"a\n"]),
            (b"a\nb", [b"a\n", b"b"]),
            (b"a\r\n\nb\n\n", [b"a\r\n", b"\n", b"b\n", b"\n"]),
            (b"a\x0b\xe2\x80\xa8b\n", [b"a\x0b\xe2\x80\xa8b\n"]),
        ],
    )
    def test_lines_end_at_newlines_only(
        self, tmp_path: Path, content: bytes, lines: list[bytes]
    ) -> None:
        path = tmp_path / "train.jsonl"
        path.write_bytes(content)
        with indexed(path) as index:
            assert [index.raw(position) for position in range(len(index))] == lines

    def test_a_broken_line_has_its_fault(self, tmp_path: Path) -> None:
        path = tmp_path / "train.jsonl"
        path.write_bytes(b'{"text": "a"}\n{"text": \n')
        with indexed(path) as index:
            line = index.line(1)
        assert line.fields is None
        assert [(fault.line, fault.kind) for fault in line.faults] == [(2, "bad JSON")]

    @pytest.mark.parametrize("position", [-1, 10_000])
    def test_a_line_beyond_the_file_raises(self, many: Path, position: int) -> None:
        with indexed(many) as index, pytest.raises(IndexError):
            index.line(position)


class TestBuilding:
    def test_the_first_records_are_there_after_the_first_piece(self, many: Path) -> None:
        with LineIndex(many) as index:
            assert len(index) == 0
            done = next(index.build())
            assert done == index.indexed_bytes == indexing.FIRST_PIECE
            assert not index.complete
            assert 0 < len(index) < 10_000
            assert index.line(0).fields is not None

    def test_building_can_be_paused_and_resumed(
        self, many: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(indexing, "PIECE", 10_007)
        with indexed(many) as whole, LineIndex(many) as index:
            for _ in range(3):
                next(index.build())
            seen = list(index.build())
            assert seen[-1] == index.size == many.stat().st_size
            assert index.complete
            assert len(index) == 10_000
            assert [index.raw(n) for n in range(10_000)] == [whole.raw(n) for n in range(10_000)]

    def test_building_ends_early_if_the_file_shrinks(self, many: Path) -> None:
        with LineIndex(many) as index:
            next(index.build())
            with many.open("r+b") as file:
                file.truncate(indexing.FIRST_PIECE)
            deque(index.build(), 0)
            assert index.complete
            assert index.size == indexing.FIRST_PIECE

    def test_memory_is_at_most_eight_bytes_per_line(self, tmp_path: Path) -> None:
        path = tmp_path / "train.jsonl"
        line = json.dumps({"text": "a" * 400}).encode() + b"\n"
        path.write_bytes(line * 100_000)
        with LineIndex(path) as index:
            tracemalloc.start()
            deque(index.build(), 0)
            kept, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert len(index) == 100_000
        assert kept < 100_000 * 8 * 1.25


class TestOpening:
    def test_a_missing_file_and_an_empty_folder_raise(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no such file"):
            LineIndex(tmp_path / "train.jsonl")
        with pytest.raises(DataError, match="no file in this folder holds records"):
            LineIndex(tmp_path)

    def test_the_file_is_closed_by_close_or_with_the_last_reference(self, many: Path) -> None:
        gc.collect()  # Leftovers of other tests must not be closed during this one.
        before = len(os.listdir("/dev/fd"))
        index = indexed(many)
        index.close()
        index.close()
        assert len(os.listdir("/dev/fd")) == before
        index = indexed(many)
        assert len(os.listdir("/dev/fd")) == before + 1
        del index
        gc.collect()
        assert len(os.listdir("/dev/fd")) == before
