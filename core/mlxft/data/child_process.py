"""Run a module on a large file in a child process, since parsing holds the interpreter lock."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

from mlxft.text import path_json

NICENESS: Final = 10
"""Priority of the child: the viewer's keys come first."""

_KEPT_BLOCK: Final = 2 * 1024 * 1024

BUFFER: Final = 256 * 1024
"""Bytes of replies that wait for the parent, so that both processes are busy."""

Reply = TypeVar("Reply")
Request = TypeVar("Request")


class ChildProcess(Generic[Reply]):
    """`python -m module` on one request; iterate over its replies, also asynchronously.

    Use as a context manager: leaving it kills the child.
    """

    def __init__(self, module: str, request: msgspec.Struct, reply: type[Reply]) -> None:
        self._decoder = msgspec.json.Decoder(reply)
        # A file instead of a pipe: the write never blocks, whatever the size of the request.
        with tempfile.TemporaryFile() as stdin:
            stdin.write(path_json.encode(request))
            stdin.seek(0)
            self._process = subprocess.Popen(
                # -P: modules in the current folder must not shadow installed ones.
                [sys.executable, "-P", "-m", module],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                # Children compare hashes of texts with those of their own children.
                env={**os.environ, "PYTHONHASHSEED": "0"},
                bufsize=BUFFER,
            )
        # At once, since starting Python and its imports would delay the first keys.
        with contextlib.suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, self._process.pid, NICENESS)
        if sys.platform == "linux":
            assert self._process.stdout is not None
            with contextlib.suppress(OSError):  # the user's pipes are too large already
                fcntl.fcntl(self._process.stdout, fcntl.F_SETPIPE_SZ, BUFFER)

    def __enter__(self) -> ChildProcess[Reply]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def __iter__(self) -> Iterator[Reply]:
        while (reply := self._next()) is not None:
            yield reply

    async def __aiter__(self) -> AsyncIterator[Reply]:
        import asyncio  # costs the children, which don't need it, seven megabytes

        while (reply := await asyncio.to_thread(self._next)) is not None:
            yield reply

    def _next(self) -> Reply | None:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return path_json.decode(line, self._decoder) if line else None

    def attached(self, size: int) -> bytes:
        """The bytes sent along with the last reply; fewer if the child was killed meanwhile."""
        assert self._process.stdout is not None
        return self._process.stdout.read(size)

    @property
    def failed(self) -> bool:
        """Whether it ended with an error; to be asked after its last reply."""
        return self._process.wait() != 0


class Send(Protocol):
    """Send a reply to the parent, with bytes that it reads by `ChildProcess.attached`."""

    def __call__(self, reply: Any, *attached: bytes) -> None: ...


def serve(request: type[Request], work: Callable[[Request, Send], None]) -> None:
    """The child's side: read the request from stdin, write each reply as a line of stdout."""
    # glibc returns freed memory to the system until it has freed a block this large, and numpy
    # spends half its time on getting it back.
    bytearray(_KEPT_BLOCK)
    # Records contain no reference cycles, and searching them for some costs a tenth of the time.
    gc.set_threshold(100_000)

    def send(reply: Any, *attached: bytes) -> None:
        sys.stdout.buffer.write(path_json.encode(reply) + b"\n")
        for piece in attached:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()

    with contextlib.suppress(BrokenPipeError):
        work(path_json.decode(sys.stdin.buffer.read(), msgspec.json.Decoder(request)), send)
