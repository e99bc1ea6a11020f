"""Checking files, in this process and in a child process."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from mlxft.data import checking
from mlxft.data.checking import Report, check
from support.records import records, write_records


@pytest.fixture(params=["here", "child"])
def where(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as small or large."""
    monkeypatch.setattr(checking, "LARGE", 10**9 if request.param == "here" else 0)


def reports(*paths: Path) -> list[Report]:
    found: list[Report] = []
    check(paths, {}, found.append, lambda: True)
    return found


@pytest.mark.usefixtures("where")
class TestChecking:
    def test_faults_statistics_and_shared_records_are_reported(self, tmp_path: Path) -> None:
        train, valid = tmp_path / "train.jsonl", tmp_path / "valid.jsonl"
        write_records(train, [*records(3), "{", records(1)[0]])
        write_records(valid, records(2, first=2))
        first, second = reports(train, valid)
        assert (first.path, first.read, first.fault_count) == (str(train), 5, 1)
        assert [fault.line for fault in first.faults] == [4]
        assert first.statistics is not None
        assert (first.statistics.records, first.statistics.duplicate_count) == (4, 1)
        assert first.shared == ()
        assert (second.path, second.shared) == (str(valid), (1,))

    def test_chosen_columns_are_used(self, tmp_path: Path) -> None:
        write_records(tmp_path / "train.jsonl", [{"q": "a", "completion": "b"}])
        found: list[Report] = []
        check([tmp_path / "train.jsonl"], {"prompt": "q"}, found.append, lambda: True)
        assert found[-1].fault_count == 0

    def test_a_cancelled_check_reports_nothing(self, tmp_path: Path) -> None:
        write_records(tmp_path / "train.jsonl", records(3))
        found: list[Report] = []
        check([tmp_path / "train.jsonl"], {}, found.append, lambda: False)
        assert found == []
        assert not any("checking" in " ".join(p.cmdline()) for p in psutil.Process().children())

    def test_only_the_first_of_many_faults_are_kept(self, tmp_path: Path) -> None:
        write_records(tmp_path / "train.jsonl", [{"prompt": "x"}] * (checking.MAX_FAULTS + 5))
        report = reports(tmp_path / "train.jsonl")[-1]
        assert len(report.faults) == checking.MAX_FAULTS
        assert report.fault_count == checking.MAX_FAULTS + 5


class TestProgress:
    def test_it_is_reported_during_the_check(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(checking, "REPORT_SECONDS", 0)
        write_records(tmp_path / "train.jsonl", records(250))
        found = reports(tmp_path / "train.jsonl")
        assert [report.read for report in found] == [100, 200, 250]
        assert [report.statistics is None for report in found] == [True, True, False]


@pytest.mark.usefixtures("where")
def test_a_folder_whose_name_is_not_utf_8(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/Gr\xf6\xdfe"))
    folder.mkdir()
    write_records(folder / "train.jsonl", [*records(3), "{"])
    (folder / "b.csv").write_text("prompt,completion\na,b\n")
    (report,) = reports(folder / "train.jsonl")
    assert report.fault_count == 1
    assert "‹U+DCF6›" in str(report.faults[0])
    (report,) = reports(folder / "b.csv")
    assert report.statistics is not None
    assert report.statistics.records == 1
