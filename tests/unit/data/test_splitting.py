"""Splits are seeded, stratified by file, and keep near duplicates together."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlxft.data.checking import Report, check
from mlxft.data.dataset import load_split
from mlxft.data.splitting import Shares, SplitReply, SplitRequest, split
from mlxft.errors import DataError, StorageError
from support.records import records, write_records

TENTHS = Shares(0.1, 0.2)
NAMES = ("train", "valid", "test")


def lines(folder: Path) -> dict[str, list[str]]:
    """The lines of each file written."""
    files = {name: folder / f"{name}.jsonl" for name in NAMES}
    return {name: file.read_text().splitlines() for name, file in files.items() if file.exists()}


def numbered(folder: Path, name: str, count: int, first: int = 0) -> Path:
    write_records(folder / name, records(count, first))
    return folder / name


class TestSplitting:
    def test_every_record_is_in_one_file_unchanged(self, tmp_path: Path) -> None:
        source = numbered(tmp_path, "all.jsonl", 100)
        before = source.read_bytes()
        made = split([source], tmp_path / "out", TENTHS, 0)
        found = lines(tmp_path / "out")
        assert made.records == {"train": 70, "valid": 10, "test": 20}
        assert {name: len(each) for name, each in found.items()} == made.records
        everything = [line for each in found.values() for line in each]
        assert sorted(everything) == sorted(before.decode().splitlines())
        assert source.read_bytes() == before

    def test_the_seed_determines_the_files(self, tmp_path: Path) -> None:
        source = numbered(tmp_path, "all.jsonl", 100)
        for name, seed in (("a", 1), ("b", 1), ("c", 2)):
            split([source], tmp_path / name, TENTHS, seed)
        a, b, c = (lines(tmp_path / name) for name in "abc")
        assert a == b
        assert a["valid"] != c["valid"]
        # In every process: Python's hashes of texts differ between them.
        everything = source.read_text().splitlines()
        held_out = [everything.index(line) for line in a["valid"]]
        assert held_out == [1, 21, 34, 44, 48, 65, 80, 81, 83, 92]

    def test_each_file_contributes_its_share(self, tmp_path: Path) -> None:
        few = numbered(tmp_path, "few.jsonl", 20)
        many = numbered(tmp_path, "many.jsonl", 200, first=1000)
        split([few, many], tmp_path / "out", TENTHS, 0)
        for name, of_few, of_many in (("valid", 2, 20), ("test", 4, 40)):
            held = [
                int(json.loads(line)["completion"].split()[3][:-1])
                for line in lines(tmp_path / "out")[name]
            ]
            assert sum(number < 1000 for number in held) == of_few
            assert sum(number >= 1000 for number in held) == of_many

    def test_repeated_records_stay_together(self, tmp_path: Path) -> None:
        write_records(tmp_path / "all.jsonl", [*records(50), *records(50)])
        split([tmp_path / "all.jsonl"], tmp_path / "out", TENTHS, 0)
        found = {name: set(each) for name, each in lines(tmp_path / "out").items()}
        for one, other in (("train", "valid"), ("train", "test"), ("valid", "test")):
            assert not found[one] & found[other]

    def test_faulty_lines_are_skipped_and_counted(self, tmp_path: Path) -> None:
        write_records(tmp_path / "all.jsonl", [*records(20), "{", {"prompt": "x"}])
        made = split([tmp_path / "all.jsonl"], tmp_path / "out", TENTHS, 0)
        assert made.faulty == 2
        assert sum(made.records.values()) == 20

    def test_tables_become_json_lines_with_their_own_fields(self, tmp_path: Path) -> None:
        rows = "".join(f'"a, {n}",b{n},{n}\n' for n in range(10))
        (tmp_path / "all.csv").write_text("ask,answer,id\n" + rows)
        split(
            [tmp_path / "all.csv"],
            tmp_path / "out",
            TENTHS,
            0,
            {"prompt": "ask", "completion": "answer"},
        )
        found = [json.loads(line) for each in lines(tmp_path / "out").values() for line in each]
        assert {"ask": "a, 3", "answer": "b3", "id": "3"} in found

    def test_a_share_of_zero_writes_no_file(self, tmp_path: Path) -> None:
        source = numbered(tmp_path, "all.jsonl", 10)
        split([source], tmp_path / "out", Shares(0.2, 0), 0)
        assert sorted(lines(tmp_path / "out")) == ["train", "valid"]


class TestNearDuplicates:
    @settings(
        max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(seed=st.integers(0, 2**32), families=st.integers(1, 12), each=st.integers(2, 6))
    def test_near_duplicates_are_in_one_split(
        self, tmp_path_factory: pytest.TempPathFactory, seed: int, families: int, each: int
    ) -> None:
        """Texts that differ in one of a hundred words; the checks agree."""
        folder = tmp_path_factory.mktemp("near")
        chance = random.Random(seed)
        made: list[Any] = []
        for family in range(families):
            words = [f"w{chance.randrange(10_000)}" for _ in range(100)]
            for copy in range(each):
                changed = [*words]
                changed[chance.randrange(100)] = f"other{copy}"
                made.append({"prompt": f"{family}", "completion": " ".join(changed)})
        chance.shuffle(made)
        write_records(folder / "all.jsonl", made)
        split([folder / "all.jsonl"], folder / "out", Shares(0.3, 0.3), seed)
        where = {
            name: {json.loads(line)["prompt"] for line in found}
            for name, found in lines(folder / "out").items()
        }
        for one, other in product(where, where):
            assert one == other or not where[one] & where[other]
        found: list[Report] = []
        check([folder / "out" / f"{name}.jsonl" for name in NAMES], {}, found.append, lambda: True)
        assert [report.near_shared for report in found] == [()] * len(found)


class TestRefusals:
    def test_nothing_is_overwritten(self, tmp_path: Path) -> None:
        source = numbered(tmp_path, "all.jsonl", 10)
        (tmp_path / "valid.jsonl").write_text("mine")
        with pytest.raises(StorageError, match=r"valid\.jsonl: this file already exists"):
            split([source], tmp_path, TENTHS, 0)
        assert not (tmp_path / "train.jsonl").exists()

    def test_an_unreadable_file_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "train.jsonl").touch()
        with pytest.raises(DataError, match=r"none\.jsonl: this file doesn't exist"):
            split([tmp_path / "none.jsonl"], tmp_path, TENTHS, 0)
        write_records(tmp_path / "bad.jsonl", ["{}"])
        with pytest.raises(DataError, match="no record can be trained"):
            split([tmp_path / "bad.jsonl"], tmp_path / "out", TENTHS, 0)

    @pytest.mark.parametrize("shares", [(0.5, 0.5), (1, 0), (-0.1, 0)])
    def test_shares_must_leave_something_to_train(self, shares: tuple[float, float]) -> None:
        with pytest.raises(DataError, match="leave nothing to train"):
            Shares(*shares)


class TestProcess:
    def ask(self, request: SplitRequest) -> SplitReply:
        command = [sys.executable, "-m", "mlxft.data.splitting"]
        done = subprocess.run(command, input=msgspec.json.encode(request), capture_output=True)
        return msgspec.json.decode(done.stdout, type=SplitReply)

    def test_it_reports_the_files_or_the_error(self, tmp_path: Path) -> None:
        source = str(numbered(tmp_path, "all.jsonl", 10))
        request = SplitRequest(
            files=(source,), folder=str(tmp_path / "out"), valid=0.1, test=0.1, seed=0
        )
        made = self.ask(request).result
        assert made is not None
        assert made.records == {"train": 8, "valid": 1, "test": 1}
        assert len(load_split(tmp_path / "out", "train").records) == 8
        assert "already exists" in self.ask(request).error
