"""Accidents that happen to a run in the queue, each at a random moment, and what is left of it."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

import psutil

from mlxft import recipe as recipes
from mlxft.engine import address
from mlxft.engine.launch import launch_training
from mlxft.errors import MlxftError
from mlxft.queue.start import ensure_supervisor
from mlxft.queue.store import own_store
from mlxft.runs.directory import RunDirectory
from mlxft.runs.followed import read_run
from mlxft_tui.session import Session
from support.project import Project, eventually
from support.queued_runs import kill_supervisor
from support.training import SETTINGS

CLOCK_FILE: Final = "MLXFT_TEST_CLOCK"
"""The variable with the file that holds how far Python's clock is off, in seconds."""

_CLOCK: Final = f"""\
import os, time
_real, _file = time.time, os.environ.get("{CLOCK_FILE}")

def _off():
    try:
        return _real() + float(open(_file).read() or 0)
    except (OSError, ValueError):
        return _real()

if _file:
    time.time = _off
"""


@dataclass(frozen=True)
class Survivor:
    """A run after its accident."""

    accidents: tuple[str, ...]
    is_right: bool
    """Whether it has the adapter of an undisturbed run and a journal of each step once."""
    resumed_manually: int
    """How often somebody had to resume it."""
    met_live: bool
    """Whether an engine was live when the first one happened."""
    seconds: float


@dataclass(frozen=True)
class Scene:
    """A project whose queue the accidents happen in, and its undisturbed run."""

    project: Project
    expected: bytes
    seconds: float
    """From the first step of an undisturbed run to its end."""

    settings: tuple[str, ...] = SETTINGS
    """Of the undisturbed run, and so of all others."""

    def suffer(self, random: Random, *accidents: str) -> Survivor:
        """Queue a run that resumes by itself; it meets the accidents in turn. Wait for its end."""
        started = time.monotonic()
        session = Session(self.project.folder)
        recipe = recipes.apply_settings(self.project.recipe, (*self.settings, "resume=automatic"))
        run = session.enqueue(recipe).directory
        met_live = list[bool]()
        with contextlib.ExitStack() as after:
            for each in accidents:
                _wait_for_a_moment(run, random, self.seconds)
                met_live.append(run.is_live())
                ACCIDENTS[each](run, random, after)
            resumed = _wait_for_the_end(session, run)
        is_right = run.adapter_file.read_bytes() == self.expected and _is_whole(run)
        return Survivor(accidents, is_right, resumed, met_live[0], time.monotonic() - started)


def _wait_for_a_moment(run: RunDirectory, random: Random, seconds: float) -> None:
    """Some time of its start, or between its first step and its end."""
    eventually(lambda: run.is_live() or run.adapter_file.exists())
    if random.random() < 0.2:
        time.sleep(random.uniform(0, 1))
        return
    eventually(lambda: not run.is_live() or _has_trained(run))
    time.sleep(random.uniform(0, seconds))


def _has_trained(run: RunDirectory) -> bool:
    # An engine holds the run before there is a journal.
    with contextlib.suppress(FileNotFoundError):
        return b'"step_finished"' in run.journal_file.read_bytes()
    return False


def _wait_for_the_end(session: Session, run: RunDirectory, seconds: float = 180.0) -> int:
    """Until the run has finished; resumed as a person would where it ended otherwise.

    An open app starts the supervisor again. Returns how often the run was resumed.
    """
    resumed, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        ensure_supervisor(own_store())
        if session.queue().has_work or run.is_live():
            time.sleep(0.1)
            continue
        if read_run(run).state == "finished":
            return resumed
        resumed += 1
        with contextlib.suppress(MlxftError):
            session.launch(run)
    raise AssertionError(f"{run.name} didn't end: {read_run(run).state}")


def _is_whole(run: RunDirectory) -> bool:
    """Whether the journal shows a finished run with each step once."""
    found = read_run(run)
    steps = list(found.view.steps.step)
    return found.state == "finished" and steps == [float(n) for n in range(1, found.view.iters + 1)]


# The accidents

Accident = Callable[[RunDirectory, Random, contextlib.ExitStack], None]


def _signal(run: RunDirectory, number: signal.Signals) -> bool:
    """Whether there was an engine to send it to."""
    process = run.process
    if process is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)
    return True


def _hang_up(run: RunDirectory, random: Random, after: contextlib.ExitStack) -> None:
    _signal(run, signal.SIGHUP)


def _kill_engine(run: RunDirectory, random: Random, after: contextlib.ExitStack) -> None:
    _signal(run, signal.SIGKILL)


def _abort_engine(run: RunDirectory, random: Random, after: contextlib.ExitStack) -> None:
    _signal(run, signal.SIGABRT)


def _terminate_engine(run: RunDirectory, random: Random, after: contextlib.ExitStack) -> None:
    _signal(run, signal.SIGTERM)


def _suspend_engine(run: RunDirectory, random: Random, after: contextlib.ExitStack) -> None:
    if _signal(run, signal.SIGSTOP):
        time.sleep(random.uniform(0.1, 1))
        _signal(run, signal.SIGCONT)


def _kill_the_supervisor(run: RunDirectory, random: Random, after: contextlib.ExitStack) -> None:
    kill_supervisor(own_store())


def _kill_both(run: RunDirectory, random: Random, after: contextlib.ExitStack) -> None:
    kill_supervisor(own_store())
    _signal(run, signal.SIGKILL)


def _tear_the_journal(run: RunDirectory, random: Random, after: contextlib.ExitStack) -> None:
    """The engine is killed within a write, before anybody can start another."""
    with own_store().locked():
        if _signal(run, signal.SIGKILL):
            eventually(lambda: not run.is_live())
            line = b'{"event":"step_finished","seq":99999,"step":7,"loss":0.1'
            with run.journal_file.open("ab") as file:
                file.write(line[: random.randrange(1, len(line))])


def _forbid_writing(run: RunDirectory, random: Random, after: contextlib.ExitStack) -> None:
    """For a second nothing in the run's folder can be replaced; root isn't stopped by that."""
    folders = [each for each in (run.path, run.checkpoints) if each.is_dir()]
    for each in folders:
        each.chmod(0o500)
    time.sleep(random.uniform(0.1, 1))
    for each in folders:
        each.chmod(0o700)


def _set_the_clock(run: RunDirectory, random: Random, after: contextlib.ExitStack) -> None:
    """It jumps by up to a month, then back."""
    file = Path(os.environ[CLOCK_FILE])
    file.write_text(str(random.uniform(-30, 30) * 86400))
    after.callback(file.write_text, "0")


def _start_twice(run: RunDirectory, random: Random, after: contextlib.ExitStack) -> None:
    """The engine is killed, and two others start one at the same time as the supervisor."""
    _signal(run, signal.SIGKILL)

    def start() -> None:
        with contextlib.suppress(MlxftError):
            launch_training(run)

    starters = [threading.Thread(target=start) for _ in range(2)]
    for each in starters:
        each.start()
    for each in starters:
        each.join()


def _flood(run: RunDirectory, random: Random, after: contextlib.ExitStack) -> None:
    """Requests and nonsense on twenty connections that nobody reads the replies of."""
    lines = [b'{"id":1,"command":{"command":"ping"}}\n', b'{"id":2}\n', random.randbytes(4000)]
    end = time.monotonic() + random.uniform(0.2, 1)
    while time.monotonic() < end and run.is_live():
        with contextlib.ExitStack() as open_:
            for _ in range(20):
                caller = open_.enter_context(socket.socket(socket.AF_UNIX))
                caller.settimeout(0.2)
                with contextlib.suppress(OSError):
                    caller.connect(str(address.read(run)))
                    caller.sendall(random.choice(lines) * random.randrange(1, 200))


def _watch_five_times(run: RunDirectory, random: Random, after: contextlib.ExitStack) -> None:
    for _ in range(5):
        after.enter_context(_viewer(run))


def _kill_a_viewer(run: RunDirectory, random: Random, after: contextlib.ExitStack) -> None:
    viewer = after.enter_context(_viewer(run))
    time.sleep(random.uniform(0, 1))
    viewer.kill()


@contextlib.contextmanager
def _viewer(run: RunDirectory) -> Iterator[subprocess.Popen[bytes]]:
    viewer = subprocess.Popen(
        [sys.executable, "-m", "mlxft_tui.cli", "attach", str(run.path), "--json"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield viewer
    finally:
        viewer.kill()
        viewer.wait()


ACCIDENTS: Final[dict[str, Accident]] = {
    "hang-up": _hang_up,
    "viewer killed": _kill_a_viewer,
    "five viewers": _watch_five_times,
    "engine killed": _kill_engine,
    "engine aborts": _abort_engine,
    "engine terminated": _terminate_engine,
    "engine suspended": _suspend_engine,
    "supervisor killed": _kill_the_supervisor,
    "both killed": _kill_both,
    "torn line": _tear_the_journal,
    "read-only folder": _forbid_writing,
    "clock jump": _set_the_clock,
    "two starters": _start_twice,
    "socket flooded": _flood,
}

if sys.platform == "linux":
    # Only Linux limits another process.

    def _fill_the_disk(run: RunDirectory, random: Random, after: contextlib.ExitStack) -> None:
        """No file of the engine can grow any more."""
        with contextlib.suppress(ProcessLookupError):
            if process := run.process:
                resource.prlimit(process, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))

    ACCIDENTS["full disk"] = _fill_the_disk


# Before and after


def write_clock(folder: Path) -> dict[str, str]:
    """The environment in which Python's clock in new processes follows a file in this folder."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_CLOCK)
    path = os.pathsep.join((str(folder), os.environ.get("PYTHONPATH", "")))
    return {CLOCK_FILE: str(folder / "clock"), "PYTHONPATH": path}


def stray_processes(seconds: float = 20.0) -> list[str]:
    """The command lines of supervisors, engines and viewers of this state folder that stay."""
    with contextlib.suppress(AssertionError):
        eventually(lambda: not _processes(), seconds)
    return _processes()


def _processes() -> list[str]:
    state, found = os.environ["MLXFT_STATE"], []
    for each in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            is_own = each.pid == os.getpid() or each.status() == psutil.STATUS_ZOMBIE
            if not is_own and each.environ().get("MLXFT_STATE") == state:
                found.append(" ".join(each.cmdline()))
    return found
