"""The process that makes kernels beside a run, as its engine starts it and as it works itself.

It ends with its standard input: whoever is killed, and however, no process stays. It works in a
folder of its own, since MLX writes a kernel's file in place: whoever is killed meanwhile leaves a
part of it, with which every later run would fail.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from mlxft.engine.blas import blas_environment
from mlxft.engine.rank import LENGTH
from mlxft.errors import StorageError
from mlxft.runs import lock
from mlxft.storage.paths import state_dir
from mlxft.watching.priority import lower_priority

if TYPE_CHECKING:
    from mlxft.compute.training.kernel_making import MakeKernels

NICENESS: Final = 19
"""Below everything else: a run's steps must not wait for it."""

_COMMAND: Final = (sys.executable, "-P", "-m", "mlxft.engine", "kernels")

_FOLDER: Final = "MLX_PTX_CACHE_DIR"

_SUFFIXES: Final = (".cu", ".txt", ".ptx")
"""Of a kernel's files."""

_FEW_THREADS: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


class ProcessKernelMaker:
    """Starts a process that makes kernels, one at a time on this machine, and hears its end."""

    def __init__(self, command: Sequence[str] = _COMMAND) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._made: bool | None = None

    @property
    def made(self) -> bool | None:
        """Whether it has made them; None until it has ended."""
        return self._made

    def start(self, order: MakeKernels) -> str | None:
        """Begin, and return at once; why that can't be, in words for a sentence, else None."""
        try:
            with lock.taken(state_dir() / "kernels.lock", patience=0.0) as held:
                if held is None:
                    return "another run has them made at this time"
                self._process = self._started(held)
        except (StorageError, OSError):
            return "the process for their kernels can't be started"
        # The write waits for the process to read, which first has to begin.
        arguments = self._process, pickle.dumps(order)
        threading.Thread(target=self._follow, args=arguments, daemon=True).start()
        return None

    def close(self) -> None:
        """Kill the process, if there is one, and wait for its end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _started(self, held: lock.Held) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            # What it says is in the engine's log.
            stdout=None,
            env={**os.environ, **_FEW_THREADS, **blas_environment()},
            # It holds the lock as long as it lives.
            pass_fds=(held.descriptor,),
            # A session of its own is what its priority counts for.
            start_new_session=True,
        )

    def _follow(self, process: subprocess.Popen[bytes], order: bytes) -> None:
        assert process.stdin is not None
        with contextlib.suppress(OSError):  # Its exit status says that it has ended.
            process.stdin.write(LENGTH.pack(len(order)) + order)
            process.stdin.flush()
        self._made = process.wait() == 0


def make_kernels() -> int:
    """Make the kernels that standard input orders; the exit status is 1 if that fails.

    The process ends as soon as standard input does.
    """
    lower_priority(NICENESS)
    # Where memory runs out, Linux ends this process and not the run.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    orders: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(sys.stdin.buffer, orders), daemon=True).start()
    try:
        from mlxft.compute import backend
        from mlxft.compute.training.kernel_making import make

        order = pickle.loads(orders.get())
        with _folder_of_its_own():
            make(order)
        backend.close()
    except Exception as error:  # A model's own code may raise anything.
        line = next(iter(str(error).splitlines()), "")
        print(f"No kernels were made beside the run ({type(error).__name__}: {line}).")
        return 1
    return 0


@contextlib.contextmanager
def _folder_of_its_own() -> Iterator[None]:
    """Have MLX, which looks for its folder with its first kernel, find all kernels in another one,
    and move new ones to where they belong at a good end."""
    folder = os.environ.get(_FOLDER)
    if folder is None:
        yield
        return
    shared, own = Path(folder), Path(folder) / "making"
    own.mkdir(parents=True, exist_ok=True)
    _drop_part(own)
    for each in shared.iterdir():
        if each.is_file():
            with contextlib.suppress(OSError):  # Else it is made again.
                (own / each.name).hardlink_to(each)
    os.environ[_FOLDER] = str(own)
    yield
    _publish(own, shared)
    shutil.rmtree(own, ignore_errors=True)


def _drop_part(own: Path) -> None:
    """Delete the latest of the kernels that a process left at its end: it may be a part."""
    left = [each for each in own.glob("*.ptx") if each.stat().st_nlink == 1]
    latest = max(left, key=lambda each: each.stat().st_mtime_ns, default=None)
    for suffix in _SUFFIXES if latest else ():
        assert latest is not None
        latest.with_suffix(suffix).unlink(missing_ok=True)


def _publish(own: Path, shared: Path) -> None:
    """Move kernels that are new to the folder of all, last the file by which MLX finds each."""
    for each in sorted(own.glob("*.ptx")):
        if not (shared / each.name).exists():
            for suffix in _SUFFIXES:
                with contextlib.suppress(FileNotFoundError):
                    each.with_suffix(suffix).replace((shared / each.name).with_suffix(suffix))


def _read(file: BinaryIO, orders: queue.SimpleQueue[bytes]) -> None:
    """Take the order, and end the process at the end of the input, whatever it is doing."""
    header = file.read(LENGTH.size)
    if len(header) == LENGTH.size:
        (length,) = LENGTH.unpack(header)
        order = file.read(length)
        if len(order) == length:
            orders.put(order)
            file.read(1)
    os._exit(1)
