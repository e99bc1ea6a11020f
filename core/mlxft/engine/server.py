"""The engine's end of a control socket: checks the caller, reads commands, writes replies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec

from mlxft.engine.mailbox import Call
from mlxft.engine.protocol import MAX_LINE, AnyReply, CancelChat, Done, Refused, Request
from mlxft.errors import EngineError
from mlxft.text import path_json

_decoder = msgspec.json.Decoder(Request)


class _Numbered(msgspec.Struct):
    id: int


_number_decoder = msgspec.json.Decoder(_Numbered)


@contextlib.asynccontextmanager
async def serving(path: Path, handle: Callable[[Call], None]) -> AsyncIterator[None]:
    """Listen on a Unix socket; each command is passed to `handle` in the event loop's thread.

    The caller holds the lock on the path, so an existing socket is a dead engine's. Raises
    `EngineError` if the socket can't be opened.
    """
    connections: set[_Connection] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(reader, writer, handle)
        connections.add(connection)
        try:
            await connection.serve()
        finally:
            connections.discard(connection)

    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    try:
        server = await asyncio.start_unix_server(accept, path, limit=MAX_LINE)
        path.chmod(0o600)
    except OSError as error:
        raise EngineError(f"{path}: the control socket can't be opened ({error}).") from None
    try:
        yield
    finally:
        server.close()
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        for connection in list(connections):
            await connection.end()


class _Connection:
    """One caller, whose calls are cancelled when it disconnects."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        handle: Callable[[Call], None],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._handle = handle
        self._loop = asyncio.get_running_loop()
        self._open: dict[int, Call] = {}

    async def serve(self) -> None:
        """Read commands until the caller disconnects or breaks the protocol."""
        try:
            if _peer_uid(self._writer.get_extra_info("socket")) == os.getuid():
                # Too long a line raises ValueError, which ends the connection.
                while line := await self._reader.readline():
                    self._take(line)
        except (OSError, ValueError, msgspec.DecodeError):
            pass
        finally:
            for call in self._open.values():
                call.cancelled.set()
            self._writer.close()

    async def end(self) -> None:
        """Send what is still buffered and disconnect."""
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1):
                await self._writer.drain()
                self._writer.close()
                await self._writer.wait_closed()
        self._writer.transport.abort()

    def _take(self, line: bytes) -> None:
        try:
            request = path_json.decode(line, _decoder)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            # Without an id there is nobody to reply to; that ends the connection.
            number = _number_decoder.decode(line).id
            self._write(Refused(id=number, message=f"The engine has no such command ({error})."))
            return
        if isinstance(request.command, CancelChat):
            for call in self._open.values():
                call.cancelled.set()
            self._write(Done(id=request.id))
            return
        call = Call(request.id, request.command, self._send)
        self._open[request.id] = call
        self._handle(call)

    def _send(self, reply: AnyReply) -> None:
        # The loop is closed if the engine ended without waiting for its worker.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._write, reply)

    def _write(self, reply: AnyReply) -> None:
        if isinstance(reply, Done | Refused):
            self._open.pop(reply.id, None)
        if self._writer.is_closing():
            return
        if self._writer.transport.get_write_buffer_size() > MAX_LINE:
            self._writer.transport.abort()  # The caller doesn't read.
            return
        self._writer.write(path_json.encode(reply) + b"\n")


def _peer_uid(connection: socket.socket) -> int:
    """The user at the other end of a Unix socket."""
    if sys.platform == "linux":
        credentials = connection.getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
        )
        return int(struct.unpack("3i", credentials)[1])
    # struct xucred of macOS: version, uid, then the groups; level 0 and option 1 are
    # SOL_LOCAL and LOCAL_PEERCRED, which Python doesn't name.
    credentials = connection.getsockopt(0, 1, 76)
    return int(struct.unpack_from("II", credentials)[1])
