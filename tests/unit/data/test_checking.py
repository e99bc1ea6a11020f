"""Checking files, in this process and in a child process."""

from __future__ import annotations

import contextlib
import json
import os
import random
import threading
from pathlib import Path

import psutil
import pytest

from mlxft.data import checking, reading
from mlxft.data.checking import Report, check
from mlxft.data.reading import MAX_FAULTS
from mlxft.errors import DataError
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
        write_records(tmp_path / "train.jsonl", [{"prompt": "x"}] * (MAX_FAULTS + 5))
        report = reports(tmp_path / "train.jsonl")[-1]
        assert len(report.faults) == MAX_FAULTS
        assert report.fault_count == MAX_FAULTS + 5


class TestProgress:
    def test_it_is_reported_during_the_check(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(checking, "REPORT_SECONDS", 0)
        monkeypatch.setattr(reading, "LINES", 100)
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


FAULTY = (
    b"",
    b"  ",
    b"{",
    b"[1, 2]",
    b'"text"',
    b'{"prompt": "\xff", "completion": "x"}',
    b'{"prompt": "a", "prompt": "b", "completion": "c"}',
    b'{"prompt": "a", "completion": "b", "completion": 3}',
    b'{"prompt": "", "completion": "b"}',
    b'{"prompt": "a", "completion": "\\u200b"}',
    b'{"prompt": 5, "completion": "b"}',
    b'{"a": NaN}',
    b'{"text": "\\ud800"}',
    b'{"input_ids": [1]}',
    b'{"messages": []}',
    b'{"messages": [{"role": "user", "content": "a"}]}',
)
UNUSUAL = (
    b'{"prompt": "a \\"b\\": c", "completion": "d"}',
    b'{"prompt": "a", "completion": "b", "label": false}',
    b'{"prompt": "a", "completion": "b", "explanation": "a text of many words"}',
    b'{"prompt": "a", "completion": "sk-abcdefghijklmnopqrstuvwxyz"}',
    b'{"prompt": "AKIA0123456789ABCDEF", "completion": "b"}',
    b'[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]',
    b'{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}',
    b'{"instruction": "a", "input": "b", "output": "c"}',
    '{"text": "Stra\u00dfe \u65e5\u672c\u8a9e \u0130"}'.encode(),
)


def varied_lines(seed: int) -> list[bytes]:
    """Faulty, unusual, repeated, nearly repeated and long records in random order."""
    chance = random.Random(seed)
    words = [f"Word{number}" for number in range(200)]
    lines = [*FAULTY, *UNUSUAL] * 5
    for number in range(1600):
        text = random.Random(number % 300).choices(words, k=40 + number % 100)
        text[chance.randrange(len(text))] = str(chance.randrange(1000))
        record = {"prompt": " ".join(text), "completion": " ".join(text[:20] * 3)}
        lines.append(json.dumps(record).encode())
    lines += chance.choices(lines, k=300)
    lines += [json.dumps({"text": " ".join(words * 20)}).encode()] * 2
    lines.append(json.dumps({"prompt": "Which seed?", "completion": str(seed)}).encode())
    chance.shuffle(lines)
    return lines


def test_several_processes_report_what_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = tuple(tmp_path / f"{name}.jsonl" for name in ("train", "valid", "test"))
    for seed, path in enumerate(paths[:2]):
        path.write_bytes(b"\n".join(varied_lines(seed)))
        assert path.stat().st_size > checking.LARGE
    paths[2].write_bytes(b"\n".join(varied_lines(0)[:50]))
    monkeypatch.setattr(checking, "LARGE", 10**9)
    alone = [report for report in reports(*paths) if report.statistics]
    monkeypatch.undo()
    assert [report for report in reports(*paths) if report.statistics] == alone
    train, valid, _ = (report.statistics for report in alone)
    assert train is not None
    assert valid is not None
    assert min(train.duplicate_count, train.near_count, train.secret_count, train.excluded) > 0
    assert min(len(alone[1].shared), len(alone[1].near_shared), len(train.warnings)) > 0
    # The process that compares reads small files itself.
    assert len(alone[2].shared) > 20
    assert len(alone[1].prompts_shared) == 1
    assert {fault.kind for fault in alone[0].faults} >= {"bad JSON", "encoding", "repeated key"}


def kill_reader(checked: threading.Event) -> None:
    """Kill the process that reads as soon as it is there."""
    while not checked.is_set():
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "mlxft.data.reading" in process.cmdline():
                    process.kill()
                    return


def test_a_check_whose_reader_is_killed_is_not_taken_for_complete(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_bytes(b"\n".join(varied_lines(0)))
    checked = threading.Event()
    killing = threading.Thread(target=kill_reader, args=(checked,))
    killing.start()
    try:
        with pytest.raises(DataError, match="the system killed the check"):
            reports(tmp_path / "train.jsonl")
    finally:
        checked.set()
        killing.join()
