"""A data folder is read step by step, with updates."""

from __future__ import annotations

from pathlib import Path

from mlxft.data import folder_view
from mlxft.data.folder_view import DataView
from support.records import records as some_records
from support.records import write_records


def views_of(folder: Path) -> list[DataView]:
    views: list[DataView] = []
    folder_view.read(folder, {}, views.append, lambda: False)
    return views


class TestReading:
    def test_lines_are_known_before_they_are_checked(self, tmp_path: Path) -> None:
        write_records(tmp_path / "train.jsonl", some_records(30))
        write_records(tmp_path / "valid.jsonl", some_records(5))
        views = views_of(tmp_path)
        lines = next(view for view in views if view.split("valid").lines)
        assert lines.split("train").lines == 30
        assert lines.train_records is None
        assert views[-1].train_records == 30

    def test_faults_duplicates_and_shared_records_are_kept(self, tmp_path: Path) -> None:
        train = [*some_records(3), "{", some_records(1)[0]]
        write_records(tmp_path / "train.jsonl", train)
        write_records(tmp_path / "valid.jsonl", some_records(2, first=2))
        view = views_of(tmp_path)[-1]
        split = view.split("train")
        assert [fault.line for fault in split.faults] == [4]
        assert split.statistics is not None
        assert [each.line for each in split.statistics.duplicates] == [5]
        assert view.split("valid").shared == 1
        assert [(each.line, each.kind) for each in split.warnings] == [(5, "duplicate")]
        assert [each.lines for each in split.fault_groups] == [(4,)]
        assert [each.lines for each in split.warning_groups] == [(5,)]
        assert "training doesn't need it" in view.split("test").problem

    def test_it_can_be_cancelled(self, tmp_path: Path) -> None:
        write_records(tmp_path / "train.jsonl", some_records(30))
        views: list[DataView] = []
        folder_view.read(tmp_path, {}, views.append, lambda: len(views) > 1)
        assert views[-1].train_records is None

    def test_the_stamp_changes_with_the_files(self, tmp_path: Path) -> None:
        before = folder_view.stamp(tmp_path)
        write_records(tmp_path / "train.jsonl", some_records(1))
        assert folder_view.stamp(tmp_path) != before
