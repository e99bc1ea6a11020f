"""Files checked here or by a process: what is told of them."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from mlxft.data import checking
from mlxft.data.checking import Report, check
from support.scripted import records, write_records


@pytest.fixture(params=["here", "elsewhere"])
def where(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are small or large."""
    monkeypatch.setattr(checking, "LARGE", 10**9 if request.param == "here" else 0)


def reports(*paths: Path) -> list[Report]:
    told: list[Report] = []
    check(paths, {}, told.append, lambda: True)
    return told


@pytest.mark.usefixtures("where")
class TestChecking:
    def test_faults_figures_and_shared_records_are_told(self, tmp_path: Path) -> None:
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

    def test_fields_of_other_names_are_taken(self, tmp_path: Path) -> None:
        write_records(tmp_path / "train.jsonl", [{"q": "a", "completion": "b"}])
        told: list[Report] = []
        check([tmp_path / "train.jsonl"], {"prompt": "q"}, told.append, lambda: True)
        assert told[-1].fault_count == 0

    def test_who_wants_no_more_is_told_no_more(self, tmp_path: Path) -> None:
        write_records(tmp_path / "train.jsonl", records(3))
        told: list[Report] = []
        check([tmp_path / "train.jsonl"], {}, told.append, lambda: False)
        assert told == []
        assert not any("checking" in " ".join(p.cmdline()) for p in psutil.Process().children())

    def test_of_many_faults_the_first_are_kept_and_all_counted(self, tmp_path: Path) -> None:
        write_records(tmp_path / "train.jsonl", [{"prompt": "x"}] * (checking.MOST_FAULTS + 5))
        report = reports(tmp_path / "train.jsonl")[-1]
        assert len(report.faults) == checking.MOST_FAULTS
        assert report.fault_count == checking.MOST_FAULTS + 5


class TestProgress:
    def test_it_is_told_meanwhile(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(checking, "TELL_SECONDS", 0)
        write_records(tmp_path / "train.jsonl", records(250))
        told = reports(tmp_path / "train.jsonl")
        assert [report.read for report in told] == [100, 200, 250]
        assert [report.statistics is None for report in told] == [True, True, False]
