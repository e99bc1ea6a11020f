"""The end of a self-test: what it has started ends with it, also when it is cancelled."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from mlxft.doctor.report_text import self_test_summary
from mlxft.doctor.self_test.child import Measuring
from mlxft.doctor.self_test.parts import PARTS, Context, checked
from mlxft.doctor.self_test.plan import llama, plan_for
from mlxft.doctor.self_test.self_test import bench_in, end_leftovers
from mlxft.doctor.self_test.watch import CancelledError, OutOfTimeError, Watch
from mlxft.engine.machine import refuse_if_training
from mlxft.errors import RunError
from mlxft.recipe import Recipe
from mlxft.runs.directory import RunDirectory, create
from mlxft.self_test.checks import Check

TINY = llama(64, 128, layers=1, heads=(4, 2), vocabulary=258)

HOLDER = """
import fcntl, os, pathlib, signal, sys
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
lock.write(str(os.getpid()))
lock.flush()
print("held", flush=True)
signal.pause()
"""

TRAINING = """
import pathlib, signal, sys
from mlxft.engine.machine import only_training
from mlxft.runs.directory import RunDirectory
run = RunDirectory(pathlib.Path(sys.argv[1]))
with run.locked(), only_training(run):
    print("training", flush=True)
    signal.pause()
"""


class TestACancelledOne:
    def test_ends_its_engines_and_deletes_its_folder(self, tmp_path: Path) -> None:
        def cancelled() -> None:
            with bench_in(tmp_path, Watch(60)) as bench:
                run = bench.folder / "adapters" / "run"
                run.mkdir(parents=True)
                command = [sys.executable, "-S", "-c", HOLDER, str(run / "lock")]
                engines.append(subprocess.Popen(command, stdout=subprocess.PIPE))
                assert engines[0].stdout is not None
                assert engines[0].stdout.readline() == b"held\n"
                raise CancelledError

        engines: list[subprocess.Popen[bytes]] = []
        with pytest.raises(CancelledError):
            cancelled()
        with engines[0] as engine:
            assert engine.wait(30) == -9
        assert list(tmp_path.iterdir()) == []

    def test_ends_a_measurement(self) -> None:
        checked = iter([False, False, False])
        watch = Watch(60, is_cancelled=lambda: next(checked, True))
        measuring = Measuring(watch)
        with pytest.raises(CancelledError):
            measuring.measured("model", {}, str, "a model")
        measuring.end()


def test_what_a_killed_one_has_left_in_the_project_is_deleted_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / ".self-test-killed"
    left.mkdir()
    (left / "self-test.lock").touch()
    with bench_in(tmp_path, Watch(60)) as running:
        end_leftovers(tmp_path, Watch(60))
        assert not left.exists()
        assert running.folder.is_dir()


def test_a_run_that_a_killed_one_has_left_training_does_not_refuse_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLXFT_STATE", str(tmp_path / "state"))
    run = RunDirectory(tmp_path / "elsewhere" / ".self-test-killed" / "adapters" / "run")
    run.path.mkdir(parents=True)
    (run.path.parents[1] / "self-test.lock").touch()
    with subprocess.Popen(
        [sys.executable, "-c", TRAINING, str(run.path)], stdout=subprocess.PIPE
    ) as engine:
        assert engine.stdout is not None
        assert engine.stdout.readline() == b"training\n"
        with pytest.raises(RunError, match="is training on this machine"):
            refuse_if_training(tmp_path)
        end_leftovers(tmp_path, Watch(60))
        refuse_if_training(tmp_path)
        assert engine.wait(30) == -9
    assert list((tmp_path / "elsewhere").iterdir()) == []


class TestMeasuring:
    def test_uses_one_process_and_another_after_a_failure(self, tmp_path: Path) -> None:
        def model(name: str) -> str | Check:
            request = {"path": str(tmp_path / name), "config": TINY}
            return measuring.measured("model", request, str, "a model")

        measuring = Measuring(Watch(60))
        try:
            assert [model("a"), model("b")] == [str(tmp_path / "a"), str(tmp_path / "b")]
            again = model("a")
            assert isinstance(again, Check)
            assert (again.outcome, "FileExistsError" in again.seen) == ("differs", True)
            assert model("c") == str(tmp_path / "c")
        finally:
            measuring.end()


class TestOneWithoutTime:
    @pytest.mark.parametrize("kind", ["cpu", "cuda"])
    def test_leaves_out_what_takes_long_and_says_so(self, tmp_path: Path, kind: Any) -> None:
        with bench_in(tmp_path, Watch(0)) as bench:
            context = Context(plan=plan_for(kind), kind=kind, bench=bench, app=["no-app"])
            found = {
                title: list(checked(context, title, part))
                for title, part in PARTS
                if title not in ("Tools", "Disk", "Calibration")
            }
        every = [each for checks in found.values() for each in checks]
        assert {each.outcome for each in every} == {"left_out"}
        counted = {title: len(checks) for title, checks in found.items()}
        plan = context.plan
        expected = (1, len(plan.gradients), 1, 1, len(plan.points), len(plan.products))
        assert counted == dict(zip(found, expected, strict=True))
        summary = self_test_summary(every, 300)
        assert summary == f"0 passed, 0 differ, {len(every)} left out for lack of time, in 300 s"

    def test_a_run_that_has_not_ended_is_no_difference(self, tmp_path: Path) -> None:
        """Its time runs out while it is waited for."""
        with bench_in(tmp_path, Watch(1, clock=iter(count()).__next__)) as bench:
            run = create(bench.folder / "adapters", Recipe(), "run")
            with run.lock_file.open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                with pytest.raises(OutOfTimeError):
                    bench.has_ended(run)
