"""The end of a self-test: what it has started ends with it, also when it is cancelled."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mlxft.doctor.self_test.child import measured
from mlxft.doctor.self_test.self_test import bench_in
from mlxft.doctor.self_test.watch import CancelledError, Watch
from mlxft.self_test.checks import Check

HOLDER = """
import fcntl, os, pathlib, signal, sys
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
lock.write(str(os.getpid()))
lock.flush()
print("held", flush=True)
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
        checked = iter([False, False])
        watch = Watch(60, is_cancelled=lambda: next(checked, True))
        with pytest.raises(CancelledError):
            measured(watch, "model", {}, str, "a model")

    def test_one_without_time_skips_what_is_left(self) -> None:
        found = measured(Watch(0), "model", {}, str, "a model")
        assert found == Check("a model", "skipped", "no time was left")
