"""The engine's end of a control socket: checks the caller, reads commands, writes replies."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec

from mlxft.engine.mailbox import Call
from mlxft.engine.peer import peer_uid
from mlxft.engine.protocol import MAX_LINE, AnyReply, CancelChat, Done, Refused, Request
from mlxft.errors import EngineError
from mlxft.text import path_json

_decoder = msgspec.json.Decoder(Request)


class _Numbered(msgspec.Struct):
    id: int


_number_decoder = msgspec.json.Decoder(_Numbered)


class Server:
    """Listens on a Unix socket; each command is passed to `handle` in the event loop's thread."""

    def __init__(self, handle: Callable[[Call], None]) -> None:
        self._handle = handle
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        self._file: os.stat_result | None = None
        self.path = Path()
        """Where it listens."""

    async def listen(self, path: Path) -> None:
        """Listen on this socket from now on; connections stay open.

        The caller holds the lock on the path, so an existing socket is a dead engine's. Raises
        `EngineError` if the socket can't be opened.
        """
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        try:
            server = await asyncio.start_unix_server(self._accept, path, limit=MAX_LINE)
            path.chmod(0o600)
            self._file = path.stat()
        except OSError as error:
            raise EngineError(f"{path}: the control socket can't be opened ({error}).") from None
        self._stop_listening()
        self._server, self.path = server, path

    def is_in_place(self) -> bool:
        """Whether the socket's file is still there; without it nobody can connect."""
        try:
            return self._file is not None and os.path.samestat(self._file, self.path.stat())
        except OSError:
            return False

    async def close(self) -> None:
        """Remove the socket and end all connections."""
        if self.is_in_place():
            self.path.unlink()
        self._stop_listening()
        for connection in list(self._connections):
            await connection.end()

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(reader, writer, self._handle)
        self._connections.add(connection)
        try:
            await connection.serve()
        finally:
            self._connections.discard(connection)


@contextlib.asynccontextmanager
async def serving(path: Path, handle: Callable[[Call], None]) -> AsyncIterator[Server]:
    """A server on this socket while the context lasts. Raises `EngineError` as `listen` does."""
    server = Server(handle)
    await server.listen(path)
    try:
        yield server
    finally:
        await server.close()


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
            if peer_uid(self._writer.get_extra_info("socket")) == os.getuid():
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
