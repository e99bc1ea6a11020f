"""Which match comes next, during a search and after it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxft.data.search import Query, SearchHits
from mlxft.errors import DataError
from mlxft_tui.data.findings import Findings

SIZE = 1000


def findings(*steps: SearchHits, complete: bool = False, origin: int = 500) -> Findings:
    made = Findings(Path("train.jsonl"), Query("x"), origin, SIZE)
    for step in steps:
        made.add(step)
    made.complete = complete
    return made


class TestDuringTheSearch:
    def test_the_next_match_below_is_known_at_once(self) -> None:
        assert findings(SearchHits((600, 700), 200)).neighbour(500, 1) == 600
        assert findings(SearchHits((600, 700), 200)).neighbour(600, 1) == 700

    def test_the_previous_match_above_is_unknown_until_the_end(self) -> None:
        part = findings(SearchHits((600,), 200))
        assert part.neighbour(500, -1) is None
        assert part.neighbour(600, 1) is None

    def test_wrapping_leads_to_the_first_match_above(self) -> None:
        part = findings(SearchHits((600,), 500), SearchHits((100,), 700))
        assert part.neighbour(600, 1) == 100

    def test_the_previous_match_below_is_known(self) -> None:
        assert findings(SearchHits((600, 700), 250)).neighbour(700, -1) == 600

    def test_the_share_grows(self) -> None:
        assert findings(SearchHits((), 250)).share == 0.25
        assert findings(complete=True).share == 1.0


class TestAfterTheSearch:
    @pytest.mark.parametrize(
        ("at", "direction", "expected"),
        [
            (500, 1, 600),
            (700, 1, 100),
            (100, 1, 200),
            (200, 1, 600),
            (500, -1, 200),
            (100, -1, 700),
            (600, -1, 200),
            (150, -1, 100),
        ],
    )
    def test_it_wraps_in_both_directions(self, at: int, direction: int, expected: int) -> None:
        whole = findings(SearchHits((600, 700), 500), SearchHits((100, 200), SIZE), complete=True)
        assert whole.neighbour(at, 1 if direction > 0 else -1) == expected

    def test_the_only_one_is_its_own_neighbour(self) -> None:
        for offset, origin in ((600, 500), (100, 500)):
            only = findings(SearchHits((offset,), SIZE), complete=True, origin=origin)
            assert only.neighbour(offset, 1) == offset
            assert only.neighbour(offset, -1) == offset

    def test_ranks_count_from_the_top_of_the_file(self) -> None:
        whole = findings(SearchHits((600, 700), 500), SearchHits((100, 200), SIZE), complete=True)
        assert [whole.rank(at) for at in (100, 200, 600, 700, 650)] == [1, 2, 3, 4, None]

    def test_without_matches_there_is_no_neighbour(self) -> None:
        assert findings(complete=True).neighbour(0, 1) is None


class TestChildProcess:
    async def test_it_finds_and_ends(self, tmp_path: Path) -> None:
        path = tmp_path / "train.jsonl"
        path.write_text('{"text": "a"}\n{"text": "b"}\n')
        found = Findings(path, Query("b"), 0, path.stat().st_size)
        async for _ in found.search():
            pass
        assert found.complete
        assert found.neighbour(0, 1) == 14

    async def test_a_missing_file_is_an_error(self, tmp_path: Path) -> None:
        found = Findings(tmp_path / "train.jsonl", Query("b"), 0, 1)
        with pytest.raises(DataError, match="check that the file exists"):
            async for _ in found.search():
                pass

    async def test_closing_it_ends_a_runaway_expression(self, tmp_path: Path) -> None:
        path = tmp_path / "train.jsonl"
        path.write_text('{"text": "b"}\n' * 40_000 * 8 + '{"text": "' + "a" * 40 + 'b"}\n')
        found = Findings(path, Query("(a+)+$|b", True), 0, path.stat().st_size)
        steps = found.search()
        await anext(steps)
        await steps.aclose()
        assert not found.complete
