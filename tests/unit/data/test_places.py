"""Lines by position before they are counted."""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path

import pytest

from mlxft.data import index as indexing
from mlxft.data.index import LineIndex
from mlxft.data.places import LinePlaces

COUNT = 5_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Records of uneven length that begin with their number, many more than the first piece has."""
    path = tmp_path / "train.jsonl"
    lines = (json.dumps({"text": f"{n} " + "é" * (n % 97)}) + "\n" for n in range(COUNT))
    path.write_text("".join(lines))
    return path


def opened(path: Path) -> LineIndex:
    """An index of the first piece only."""
    index = LineIndex(path)
    next(index.build())
    assert not index.complete
    return index


def number(places: LinePlaces, position: int) -> int:
    """The number that the record at a position begins with."""
    span = places.span(position)
    raw = places.index.read(span.start, span.end - span.start)
    return int(json.loads(raw)["text"].split()[0])


class TestBeforeTheLinesAreCounted:
    def test_the_count_is_a_good_estimate(self, path: Path) -> None:
        places = LinePlaces(opened(path))
        assert not places.exact
        assert places.count == pytest.approx(COUNT, rel=0.05)

    def test_the_first_are_exact(self, path: Path) -> None:
        places = LinePlaces(opened(path))
        assert places.is_exact(0)
        assert [number(places, n) for n in range(50)] == list(range(50))

    def test_the_last_line_is_last_and_its_neighbours_are_before_it(self, path: Path) -> None:
        places = LinePlaces(opened(path))
        last = [number(places, places.count - 1 - back) for back in range(600)]
        assert last == list(range(COUNT - 1, COUNT - 601, -1))
        assert not places.is_exact(places.count - 1)

    def test_the_middle_is_close_and_its_neighbours_are_next_to_it(self, path: Path) -> None:
        places = LinePlaces(opened(path))
        middle = places.count // 2
        found = number(places, middle)
        assert found == pytest.approx(COUNT / 2, rel=0.1)
        around = [number(places, middle + by) for by in range(-30, 31)]
        assert around == list(range(found - 30, found + 31))

    def test_an_offset_leads_back_to_its_position(self, path: Path) -> None:
        places = LinePlaces(opened(path))
        for position in (3, places.count // 2, places.count - 1):
            span = places.span(position)
            assert places.position_of(span.start) == position
            assert places.position_of(span.end - 1) == position

    def test_positions_beyond_the_last_raise(self, path: Path) -> None:
        places = LinePlaces(opened(path))
        with pytest.raises(IndexError):
            places.span(places.count)

    def test_jumping_to_the_end_reads_little(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        index = opened(path)
        read: list[int] = []
        whole = LineIndex.read

        def counted(self: LineIndex, start: int, size: int) -> bytes:
            piece = whole(self, start, size)
            read.append(len(piece))
            return piece

        monkeypatch.setattr(LineIndex, "read", counted)
        places = LinePlaces(index)
        read.clear()
        places.span(places.count - 1)
        assert sum(read) < indexing.FIRST_PIECE * 2


class TestOnceTheyAreCounted:
    def test_new_places_are_exact_and_find_a_record_by_its_offset(self, path: Path) -> None:
        index = opened(path)
        before = LinePlaces(index)
        span = before.span(before.count - 1)
        deque(index.build(), 0)
        after = LinePlaces(index)
        assert (after.exact, after.count) == (True, COUNT)
        assert after.position_of(span.start) == COUNT - 1

    def test_estimates_stay_stable_while_the_index_grows(self, path: Path) -> None:
        index = opened(path)
        places = LinePlaces(index)
        middle = places.count // 2
        found = number(places, middle)
        deque(index.build(), 0)
        assert number(places, middle) == found
        assert not places.is_exact(middle)


class TestOddFiles:
    @pytest.mark.parametrize("content", [b"\n", b"a", b"a\n\n", b"\n" * 70_000])
    def test_all_lines_are_found(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "train.jsonl"
        path.write_bytes(content)
        index = LineIndex(path)
        next(index.build())
        places = LinePlaces(index)
        assert places.span(places.count - 1).end == len(content)

    def test_one_line_without_an_end_is_one_line(self, tmp_path: Path) -> None:
        path = tmp_path / "train.jsonl"
        path.write_bytes(b"a" * 300_000)
        index = LineIndex(path)
        next(index.build())
        places = LinePlaces(index)
        assert places.count == 1
        assert places.span(0) == (0, 300_000)
