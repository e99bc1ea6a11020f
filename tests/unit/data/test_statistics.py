"""A set in figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxft.data import statistics as figures
from mlxft.data.statistics import (
    Bin,
    Duplicate,
    FirstLines,
    Lengths,
    Statistics,
    histogram,
    overlap,
    statistics,
    summarize,
)
from mlxft.data.validation import scan


def of(folder: Path, *lines: str, first_lines: FirstLines | None = None) -> Statistics:
    path = folder / "train.jsonl"
    path.write_text("".join(line + "\n" for line in lines))
    return statistics(scan(path), first_lines if first_lines is not None else {})


class TestStatistics:
    def test_formats_lengths_and_faulty_lines_are_counted(self, tmp_path: Path) -> None:
        found = of(
            tmp_path,
            '{"prompt": "ab", "completion": "cdé"}',
            '{"text": "a"}',
            '{"text": ""}',
            "{",
            '{"text": "bc"}',
        )
        assert found.records == 3
        assert found.faulty_lines == 2
        assert found.formats == {"prompt/completion": 1, "text": 2}
        assert found.lengths == Lengths(3, 8, 1, 2, 5)
        assert sum(each.count for each in found.bins) == 3

    def test_a_repeated_record_is_found_whatever_its_json_looks_like(self, tmp_path: Path) -> None:
        found = of(
            tmp_path,
            '{"prompt": "a", "completion": "b"}',
            '{"prompt": "b", "completion": "a"}',
            '{"completion":"\\u0062","prompt":"a","id":7}',
        )
        assert found.duplicates == (Duplicate(3, 1),)
        assert found.duplicate_count == 1

    def test_only_the_first_repeats_are_named_and_all_are_counted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(figures, "MOST_DUPLICATES", 2)
        found = of(tmp_path, *['{"text": "a"}'] * 5)
        assert [each.line for each in found.duplicates] == [2, 3]
        assert found.duplicate_count == 4

    def test_records_in_both_splits_are_found(self, tmp_path: Path) -> None:
        train: FirstLines = {}
        valid: FirstLines = {}
        of(tmp_path, '{"text": "a"}', '{"text": "b"}', first_lines=train)
        of(tmp_path, '{"text": "c"}', '{"text": "b"}', '{"text": "b"}', first_lines=valid)
        assert overlap(train, valid) == (2,)
        assert overlap(valid, train) == (2,)


class TestDistribution:
    def test_lengths_are_summed_up(self) -> None:
        found = summarize([3, 1, 8])
        assert found is not None
        assert (found.count, found.total, found.shortest, found.median, found.longest) == (
            3,
            12,
            1,
            3,
            8,
        )
        assert summarize([]) is None

    def test_bins_are_of_equal_width_and_hold_every_length(self) -> None:
        assert histogram([1, 2, 3, 4, 10], 5) == (
            Bin(1, 2, 2),
            Bin(3, 4, 2),
            Bin(5, 6, 0),
            Bin(7, 8, 0),
            Bin(9, 10, 1),
        )
        assert histogram([7, 7], 5) == (Bin(7, 7, 2),)
        assert histogram([], 5) == ()
