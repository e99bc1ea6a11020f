"""The process of a rank other than rank 0: it follows orders until their end, then it is gone."""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, BinaryIO, Final

import msgspec

from mlxft.engine.ports import free_ports
from mlxft.engine.rank_replies import (
    Alive,
    AnyReply,
    Entered,
    Failed,
    Hello,
    Loaded,
    Memory,
    Stepped,
)
from mlxft.errors import MlxftError, RunError

LENGTH: Final = struct.Struct(">Q")
"""Before each order: how many bytes follow. 0 says only that rank 0 is alive."""

ALIVE_SECONDS: Final = 2.0
"""Time between two signs of life."""

SILENCE_SECONDS: Final = 20.0
"""After so long without a sign of life a rank counts as lost."""

_PORTS: Final = 8
"""Ports that are offered: one for each address of a machine."""


def follow_rank_0(rank: int, *, is_remote: bool) -> int:
    """Follow the orders on standard input; the exit status is 1 after an error.

    The process ends as soon as standard input does. A `is_remote` rank also ends when it hears
    nothing from rank 0 for long, since a cut connection isn't noticed otherwise.
    """
    # What libraries print must not come between the replies.
    replies = _Replies(os.fdopen(os.dup(sys.stdout.fileno()), "wb"))
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    orders: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    heard = [time.monotonic()]
    threading.Thread(target=_read, args=(sys.stdin.buffer, orders, heard), daemon=True).start()
    threading.Thread(
        target=_show_life, args=(replies, heard if is_remote else None), daemon=True
    ).start()
    try:
        return _follow(rank, orders, replies)
    except _OtherLostError:
        replies.send(Failed(message="another rank was lost", by_others=True))
    except Exception as error:
        replies.send(_failed(error))
        if not isinstance(error, MlxftError):
            raise
    return 1


def _follow(rank: int, orders: queue.SimpleQueue[bytes], replies: _Replies) -> int:
    from mlxft.compute import backend
    from mlxft.compute.training.rank_orders import AddGradient, Load
    from mlxft.compute.training.rank_work import RankWork

    def memory() -> Memory:
        used = backend.memory()
        return Memory(active=used.active, peak=used.peak)

    replies.send(Hello(versions=backend.versions()))
    replies.memory = memory
    work = RankWork(rank, _entering(replies))
    while True:
        order = pickle.loads(orders.get())
        work.follow(order)
        match order:
            case Load():
                replies.send(Loaded(base=work.base, ports=free_ports(_PORTS)))
            case AddGradient():
                done = Stepped(seconds=work.computed, tokens=order.own_count, memory=memory())
                replies.send(done)


def _entering(replies: _Replies) -> Callable[[Any], Any]:
    """Reports every sum to rank 0 before it waits for the other ranks."""
    count = 0

    def around(sum_of: Any) -> Any:
        def summed(array: Any) -> Any:
            nonlocal count
            count += 1
            replies.send(Entered(number=count))
            try:
                return sum_of(array)
            except RuntimeError as error:
                raise _OtherLostError from error

        return summed

    return around


class _OtherLostError(Exception):
    """A sum has failed: another rank is gone."""


class _Replies:
    """Standard output, written by several threads."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._writing = threading.Lock()
        self.memory: Callable[[], Memory] | None = None
        """MLX's memory, once it is loaded."""

    def send(self, reply: AnyReply) -> None:
        # Without a reader this process is about to end.
        with self._writing, contextlib.suppress(BrokenPipeError):
            self._file.write(msgspec.json.encode(reply) + b"\n")
            self._file.flush()


def _failed(error: Exception) -> Failed:
    if isinstance(error, MlxftError):
        return Failed(
            message=str(error), cause=error.cause if isinstance(error, RunError) else None
        )
    from mlxft.compute.training import out_of_memory

    line = next(iter(str(error).splitlines()), "")
    if isinstance(error, (RuntimeError, MemoryError)) and out_of_memory.is_meant_by(error):
        return Failed(message=f"out of memory ({line})", cause="out_of_memory")
    return Failed(message=f"{type(error).__name__}: {line}")


def _read(file: BinaryIO, orders: queue.SimpleQueue[bytes], heard: list[float]) -> None:
    """Queue the orders; ends the process at their end, whatever it is doing."""
    while header := file.read(LENGTH.size):
        heard[0] = time.monotonic()
        (length,) = LENGTH.unpack(header)
        if not length:
            continue
        order = file.read(length)
        if len(order) < length:
            break
        orders.put(order)
    os._exit(0)


def _show_life(replies: _Replies, heard: list[float] | None) -> None:
    while heard is None or time.monotonic() - heard[0] < SILENCE_SECONDS:
        replies.send(Alive(memory=replies.memory() if replies.memory else None))
        time.sleep(ALIVE_SECONDS)
    os._exit(1)
