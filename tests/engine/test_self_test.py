"""The whole self-test with a tiny plan: real processes, its table, its file, and its end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mlxft.doctor.self_test.child import measured
from mlxft.doctor.self_test.plan import Plan, RunPlan
from mlxft.doctor.self_test.self_test import FILE, bench_in
from mlxft.doctor.self_test.watch import CancelledError, Watch
from mlxft.memory.calibration import remembered_peaks
from mlxft.self_test.checks import Check
from mlxft_tui.cli.self_test import run_self_test

TINY = Plan(
    runs=RunPlan(steps=120, save_every=10, breaks=["torn"], demo_steps=3, demo_tokens=48),
    disk_bytes=1_000_000,
    keys=2,
)


@pytest.mark.skipif(sys.platform == "darwin", reason="the checks of a Mac are more")
def test_a_tiny_self_test(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = tmp_path / "planted-project"
    project.mkdir()
    run_self_test(project, None, as_json=True, plan=TINY)
    found = json.loads((project / FILE).read_text())
    printed = capsys.readouterr()
    assert json.loads(printed.out) == found
    assert "Resume (7 of 9): a run without a break" in printed.err
    titles = ["Tools", "Disk", "Training", "Resume", "App", "Calibration"]
    assert [each["title"] for each in found["parts"]] == titles
    outcomes = {
        check["subject"]: check["outcome"] for part in found["parts"] for check in part["checks"]
    }
    # Memory and times depend on the machine; what is computed doesn't.
    right = (
        "random model in place of the demo: loss",
        "kill -9, torn checkpoint and resume",
        "kill -9, torn checkpoint and resume: checkpoints",
    )
    assert [outcomes[each] for each in right] == ["passed"] * 3
    assert outcomes["the process's memory"] == "passed"
    assert str(tmp_path) not in json.dumps(found)
    kept = ["self-test random model in place of the demo"]
    assert [each.run for each in remembered_peaks()] == kept
    assert [each["run"] for each in found["peaks"]] == kept
    assert [each.name for each in project.iterdir()] == [FILE]


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
