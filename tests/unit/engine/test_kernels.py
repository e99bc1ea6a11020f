"""A process that makes kernels beside a run: one at a time, and never longer than the run."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlxft.engine.kernels import ProcessKernelMaker
from mlxft.runs import lock
from mlxft.storage.paths import state_dir
from support.project import eventually

_WAITS = (sys.executable, "-S", "-c", "import sys; sys.stdin.read()")
_ENDS_WELL = (sys.executable, "-S", "-c", "")
_FAILS = (sys.executable, "-S", "-c", "raise SystemExit(1)")


ORDER: Any = None

RUN = """
import time
from mlxft.engine.kernels import ProcessKernelMaker
class Endless:
    def __reduce__(self):
        return time.sleep, (600,)
maker = ProcessKernelMaker()
assert maker.start(Endless()) is None
print(maker._process.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An own state folder."""
    monkeypatch.setenv("MLXFT_STATE", str(tmp_path))


@pytest.mark.parametrize(("command", "made"), [(_ENDS_WELL, True), (_FAILS, False)])
def test_a_run_hears_how_it_ends(command: tuple[str, ...], made: bool) -> None:
    maker = ProcessKernelMaker(command)
    assert maker.start(ORDER) is None
    eventually(lambda: maker.made is not None)
    assert maker.made is made


def test_two_runs_have_one_at_a_time() -> None:
    first, second = ProcessKernelMaker(_WAITS), ProcessKernelMaker(_WAITS)
    assert first.start(ORDER) is None
    assert second.start(ORDER) == "another run has them made at this time"
    first.close()
    assert second.start(ORDER) is None
    second.close()
    assert not lock.is_taken(state_dir() / "kernels.lock")


def test_a_process_that_cannot_be_started_is_said() -> None:
    maker = ProcessKernelMaker(("/nowhere",))
    assert maker.start(ORDER) == "the process for their kernels can't be started"


def test_it_ends_with_a_run_that_is_killed() -> None:
    run = subprocess.Popen([sys.executable, "-c", RUN], stdout=subprocess.PIPE)
    assert run.stdout is not None
    maker = psutil.Process(int(run.stdout.readline()))
    eventually(lambda: maker.nice() == 19)  # It follows its order now, or soon.
    run.send_signal(signal.SIGKILL)
    run.wait()
    run.stdout.close()
    eventually(lambda: not maker.is_running())
