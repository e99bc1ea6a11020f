"""Starts engines as processes of their own, without loading MLX here."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from mlxft.engine.blas import blas_environment
from mlxft.engine.client import EngineClient
from mlxft.engine.machine import refuse_if_training
from mlxft.errors import EngineError, RunError, StorageError
from mlxft.runs.directory import RunDirectory
from mlxft.runs.followed import START_SECONDS
from mlxft.storage.paths import log_file, runtime_dir

END_SECONDS = 5.0
"""How long an engine may take to end before it is killed."""

_service_numbers = itertools.count(1)


def launch_training(
    directory: RunDirectory,
    kept: int | None = None,
    memory_limit: int | None = None,
    until: int | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Start an engine on a run and return its process id once it listens.

    The engine has its own session, so it outlives its parent and the terminal; `environment` is
    added to this process's. It keeps the descriptor `kept` open, and with it a lock, from its first
    moment to its last. `memory_limit` is what MLX should stay below, in bytes, `until` a step after
    which the run is stopped and saved. Raises `RunError` if the run was deleted or another one
    trains on this machine, `StorageError` if a folder can't be written, and `EngineError` with the
    engine's reason if it fails to start.
    """
    if not directory.recipe_file.is_file():
        raise RunError(f"{directory.path}: the run was deleted; start a new one.")
    refuse_if_training(directory.path.parent)
    arguments = ["train", str(directory.path)]
    if memory_limit is not None:
        arguments.append(f"--memory-limit={memory_limit}")
    if until is not None:
        arguments.append(f"--until={until}")
    process = _start(
        arguments, directory.log_file, subprocess.DEVNULL, kept=kept, environment=environment
    )
    # Without a wait the ended child stays in the process table.
    threading.Thread(target=process.wait, daemon=True).start()
    return process.pid


_SERVICE_GONE = "The model service has ended; {} may say why. It is started again when needed."


def _log() -> Path:
    """The model service's output."""
    return log_file().with_name("model-service.log")


class ModelService:
    """A child engine that serves previews and chat to this viewer and ends with it."""

    def __init__(self, folder: Path | None = None) -> None:
        """`folder` is its working directory, by default this process's."""
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._client: EngineClient | None = None
        self._starting = asyncio.Lock()

    async def client(self) -> EngineClient:
        """A connection to the service, started if necessary.

        Raises `EngineError`.
        """
        async with self._starting:
            if self._client is None or self._client.closed:
                await self._end()
                path = runtime_dir() / f"service-{os.getpid()}-{next(_service_numbers)}.sock"
                self._process = await asyncio.to_thread(self._launch, path)
                self._client = await EngineClient.connect(path, gone=_SERVICE_GONE.format(_log()))
            return self._client

    async def close(self) -> None:
        """End the service."""
        async with self._starting:
            await self._end()

    def _launch(self, path: Path) -> subprocess.Popen[bytes]:
        _remove_dead_sockets()
        return _start(["serve", str(path)], _log(), subprocess.PIPE, self._folder)

    async def _end(self) -> None:
        client, process = self._client, self._process
        self._client = self._process = None
        if client is not None:
            await client.close()
        if process is not None:
            await asyncio.to_thread(_end_child, process)


def _remove_dead_sockets() -> None:
    """Remove the sockets of killed services; each is named after its viewer's process."""
    for path in runtime_dir().glob("service-*.sock"):
        viewer = path.name.split("-")[1]
        if viewer.isdecimal() and not _is_alive(int(viewer)) and not _has_listener(path):
            with contextlib.suppress(OSError):
                path.unlink()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _has_listener(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as caller:
        caller.setblocking(False)
        try:
            caller.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True


def _end_child(process: subprocess.Popen[bytes]) -> None:
    """Close the child's stdin, which ends it, and wait."""
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    _await_end(process)


def _await_end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _start(
    arguments: list[str],
    log: Path,
    stdin: int,
    folder: Path | None = None,
    kept: int | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.Popen[bytes]:
    """The engine process, once it has reported through a pipe that it listens."""
    receive, send = os.pipe()
    try:
        with _opened(log) as output:
            process = subprocess.Popen(
                # -P: modules in the current folder must not stand in for installed ones.
                [sys.executable, "-P", "-m", "mlxft.engine", *arguments, f"--ready-fd={send}"],
                stdin=stdin,
                stdout=output,
                stderr=output,
                cwd=folder,
                env={**os.environ, **blas_environment(), **environment},
                pass_fds=(send,) if kept is None else (send, kept),
                start_new_session=True,
            )
    except OSError as error:
        os.close(receive)
        raise EngineError(f"The engine can't be started ({error.strerror}).") from None
    finally:
        os.close(send)
    try:
        report = _read_all(receive, START_SECONDS)
    finally:
        os.close(receive)
    if report == "ready":
        return process
    _await_end(process)
    raise EngineError(report or f"The engine failed to start; {log} says why.")


@contextlib.contextmanager
def _opened(log: Path) -> Iterator[int]:
    """A descriptor to append to the log, which only its owner can read. Raises `StorageError`."""
    try:
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(log, flags, 0o600)
    except OSError as error:
        raise StorageError(
            f"{log}: the engine's log can't be written ({error.strerror}); "
            "free disk space or choose a folder you can write."
        ) from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read_all(descriptor: int, seconds: float) -> str | None:
    """The text written to a pipe until it is closed; None if nothing comes in this time."""
    text = b""
    while select.select([descriptor], [], [], seconds)[0]:
        data = os.read(descriptor, 4096)
        if not data:
            return text.decode(errors="replace").strip() or None
        text += data
    return None
