"""A process that makes kernels beside a run: one at a time, and never longer than the run."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlxft.engine import kernels
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


class TestItsFolder:
    def test_new_kernels_are_moved_at_a_good_end(self, shared: Path) -> None:
        write_kernel(shared, "old")
        with kernels._folder_of_its_own():
            own = Path(os.environ["MLX_PTX_CACHE_DIR"])
            assert (own / "old.ptx").read_text() == "old"
            write_kernel(own, "new")
            assert not (shared / "new.ptx").exists()
        assert sorted(each.name for each in shared.iterdir()) == [
            f"{name}{suffix}" for name in ("new", "old") for suffix in (".cu", ".ptx", ".txt")
        ]

    def test_a_killed_process_leaves_all_but_the_one_that_may_be_a_part(self, shared: Path) -> None:
        own = shared / "making"
        own.mkdir()
        for at, name in enumerate(("whole", "part")):
            write_kernel(own, name)
            os.utime(own / f"{name}.ptx", (at, at))
        with kernels._folder_of_its_own():
            assert not (own / "part.ptx").exists()
        assert [each.name for each in shared.glob("*.ptx")] == ["whole.ptx"]

    def test_a_failed_process_moves_none(self, shared: Path) -> None:
        with contextlib.suppress(RuntimeError), kernels._folder_of_its_own():
            write_kernel(Path(os.environ["MLX_PTX_CACHE_DIR"]), "new")
            raise RuntimeError
        assert not list(shared.glob("*.ptx"))


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """MLX's folder of kernels."""
    folder = tmp_path / "ptx"
    folder.mkdir()
    monkeypatch.setenv("MLX_PTX_CACHE_DIR", str(folder))
    return folder


def write_kernel(folder: Path, name: str) -> None:
    """Write a kernel's files as MLX does."""
    for suffix in (".ptx", ".txt", ".cu"):
        (folder / f"{name}{suffix}").write_text(name)


def test_it_ends_with_a_run_that_is_killed() -> None:
    run = subprocess.Popen([sys.executable, "-c", RUN], stdout=subprocess.PIPE)
    assert run.stdout is not None
    maker = psutil.Process(int(run.stdout.readline()))
    eventually(lambda: maker.nice() == 19)  # It follows its order now, or soon.
    run.send_signal(signal.SIGKILL)
    run.wait()
    run.stdout.close()
    eventually(lambda: not maker.is_running())
