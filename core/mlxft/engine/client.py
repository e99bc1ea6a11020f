"""The viewer's end of a control socket: commands out, streams of replies back."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from mlxft.engine.peer import peer_uid
from mlxft.engine.protocol import (
    MAX_LINE,
    AnswerAll,
    AnyCommand,
    AnyReply,
    CancelChat,
    Chat,
    Done,
    Evaluate,
    Export,
    MeasureSpeed,
    MeasureTokens,
    OpenModel,
    Preview,
    Refused,
    Request,
    SideBySide,
)
from mlxft.errors import EngineError
from mlxft.text import path_json

_decoder: msgspec.json.Decoder[AnyReply] = msgspec.json.Decoder(AnyReply)

ANSWER_SECONDS = 10.0
"""How long an engine may take to accept a command."""

_LOST = "The engine has closed the connection; its log or the run's last event says why."
_SILENT = (
    "The engine doesn't respond; it may be suspended: kill -CONT resumes it, and the run's lock "
    "file has its process id."
)

_CANCELLED = (Chat, SideBySide, AnswerAll, MeasureSpeed, Evaluate, Export)
"""Commands that are cancelled when their caller stops listening."""


class EngineClient:
    """One connection to an engine, for any number of commands at once."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gone: str
    ) -> None:
        self.closed = False
        self._gone = gone
        self.model: OpenModel | None = None
        """The model last requested of a model service; None if that was refused or cancelled."""
        self._reader = reader
        self._writer = writer
        self._ids = itertools.count(1)
        self._open: dict[int, asyncio.Queue[AnyReply | None]] = {}
        self._task = asyncio.create_task(self._receive())

    @classmethod
    async def connect(
        cls, socket: Path, timeout: float = 5.0, gone: str | None = None
    ) -> EngineClient:
        """Connect to the engine on this socket.

        Raises `EngineError` if there is none. `gone` is its message where the engine has ended.
        """
        try:
            async with asyncio.timeout(timeout):
                reader, writer = await asyncio.open_unix_connection(socket, limit=MAX_LINE)
        except (OSError, TimeoutError):
            message = gone or f"{socket}: no engine is listening; it may have ended."
            raise EngineError(message) from None
        if peer_uid(writer.get_extra_info("socket")) != os.getuid():
            writer.close()
            raise EngineError(f"{socket}: another user listens there; remove the file.")
        return cls(reader, writer, gone or _LOST)

    async def stream(self, command: AnyCommand) -> AsyncIterator[AnyReply]:
        """The replies to a command, without its final `Done`.

        An answer is cancelled when its caller stops listening. Raises `EngineError` when the engine
        refuses, with its reason, and when the connection is lost.
        """
        number = next(self._ids)
        replies: asyncio.Queue[AnyReply | None] = asyncio.Queue()
        self._open[number] = replies
        complete = done = False
        if isinstance(command, OpenModel):
            self.model = command
        try:
            await self._write(number, command)
            while not complete:
                reply = await replies.get()
                complete = reply is None or isinstance(reply, Done | Refused)
                if reply is None:
                    raise EngineError(self._gone)
                if isinstance(reply, Refused):
                    raise EngineError(reply.message)
                if not complete:
                    yield reply
            done = True
        finally:
            del self._open[number]
            if self.model is command and not done:
                self.model = None
            if isinstance(command, _CANCELLED) and not complete and not self.closed:
                with contextlib.suppress(EngineError):
                    await self._write(next(self._ids), CancelChat())

    async def send(self, command: AnyCommand) -> None:
        """Send a command whose replies don't matter, and wait until it is accepted or done.

        Raises `EngineError`, also if the engine doesn't respond in time to a quick command.
        """
        takes_long = isinstance(command, (OpenModel, Preview, MeasureTokens, *_CANCELLED))
        try:
            async with asyncio.timeout(None if takes_long else ANSWER_SECONDS):
                async for _ in self.stream(command):
                    pass
        except TimeoutError:
            raise EngineError(_SILENT) from None

    async def close(self) -> None:
        """Disconnect; open streams end with `EngineError`."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def _write(self, number: int, command: AnyCommand) -> None:
        if self.closed:
            raise EngineError(self._gone)
        line = path_json.encode(Request(number, command)) + b"\n"
        if len(line) > MAX_LINE:
            raise EngineError("The message is too long for the engine; shorten the text.")
        try:
            self._writer.write(line)
            await self._writer.drain()
        except OSError:
            self.closed = True
            raise EngineError(self._gone) from None

    async def _receive(self) -> None:
        try:
            while line := await self._reader.readline():
                reply = path_json.decode(line, _decoder)
                if reply.id in self._open:
                    self._open[reply.id].put_nowait(reply)
        except (OSError, ValueError, msgspec.DecodeError):
            pass  # A broken stream is a lost connection.
        finally:
            self.closed = True
            for replies in self._open.values():
                replies.put_nowait(None)
