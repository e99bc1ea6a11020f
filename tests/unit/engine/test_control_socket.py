"""The client and the server of a control socket."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mlxft.conversation.messages import Message, Question
from mlxft.engine.client import EngineClient
from mlxft.engine.mailbox import Call
from mlxft.engine.protocol import (
    MAX_LINE,
    CancelChat,
    Chat,
    OpenModel,
    Pause,
    Ping,
    Stop,
    TextGenerated,
)
from mlxft.engine.server import serving
from mlxft.errors import EngineError
from mlxft.storage.paths import runtime_dir

CHAT = Chat(Question((Message("user", "Hello."),)))


@asynccontextmanager
async def engine(handle: Callable[[Call], None]) -> AsyncIterator[Path]:
    path = runtime_dir() / "test.sock"
    async with serving(path, handle):
        yield path


@asynccontextmanager
async def connected(handle: Callable[[Call], None]) -> AsyncIterator[EngineClient]:
    async with engine(handle) as path:
        client = await EngineClient.connect(path)
        try:
            yield client
        finally:
            await client.close()


async def raw(path: Path, data: bytes) -> bytes:
    """The first reply line to these bytes; empty if the engine disconnects."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.readline(), 10)
    except ConnectionError:
        return b""
    finally:
        writer.close()


class Calls:
    """Accepts calls and keeps them open."""

    def __init__(self) -> None:
        self.taken: asyncio.Queue[Call] = asyncio.Queue()

    def __call__(self, call: Call) -> None:
        self.taken.put_nowait(call)

    async def next(self) -> Call:
        return await asyncio.wait_for(self.taken.get(), 10)


class TestCommands:
    async def test_a_command_is_accepted(self) -> None:
        async with connected(lambda call: call.done()) as client:
            await client.send(Ping())

    async def test_a_refusal_is_raised_with_the_engines_reason(self) -> None:
        async with connected(lambda call: call.refuse("Not now.")) as client:
            with pytest.raises(EngineError, match=r"^Not now\.$"):
                await client.send(Pause())

    async def test_replies_in_another_order_reach_their_own_callers(self) -> None:
        calls = Calls()
        async with connected(calls) as client:

            async def texts() -> list[str]:
                return [r.text async for r in client.stream(CHAT) if isinstance(r, TextGenerated)]

            first, second = asyncio.create_task(texts()), asyncio.create_task(texts())
            one, two = await calls.next(), await calls.next()
            for call, text in ((two, "second"), (one, "first")):
                call.send(TextGenerated(id=call.id, text=text))
                call.done()
            assert (await first, await second) == (["first"], ["second"])

    async def test_a_command_too_long_for_the_engine_is_refused_before_it_is_sent(self) -> None:
        async with connected(lambda call: call.done()) as client:
            with pytest.raises(EngineError, match="too long"):
                await client.send(Chat(Question((Message("user", "x" * MAX_LINE),))))
            await client.send(Ping())


class TestSilence:
    async def test_a_command_without_a_response_times_out(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mlxft.engine.client.ANSWER_SECONDS", 0.05)
        async with connected(Calls()) as client:
            with pytest.raises(EngineError, match="may be suspended"):
                await client.send(Pause())

    async def test_a_slow_command_is_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("mlxft.engine.client.ANSWER_SECONDS", 0.05)
        calls = Calls()
        async with connected(calls) as client:
            opening = asyncio.create_task(client.send(OpenModel("m")))
            call = await calls.next()
            await asyncio.sleep(0.2)
            call.done()
            await opening


class TestLostConnection:
    async def test_every_open_stream_ends_with_an_error(self) -> None:
        calls = Calls()
        async with engine(calls) as path:
            client = await EngineClient.connect(path)
            waiting = [asyncio.create_task(client.send(each)) for each in (Pause(), Stop())]
            await calls.next()
            await calls.next()
        for task in waiting:
            with pytest.raises(EngineError, match="closed the connection"):
                await task
        assert client.closed
        with pytest.raises(EngineError):
            await client.send(Ping())
        await client.close()

    async def test_nobody_listening_is_one_sentence(self, tmp_path: Path) -> None:
        with pytest.raises(EngineError, match="no engine is listening"):
            await EngineClient.connect(tmp_path / "none.sock")

    async def test_a_caller_can_give_its_own_sentence_for_an_ended_engine(
        self, tmp_path: Path
    ) -> None:
        with pytest.raises(EngineError, match="r resumes"):
            await EngineClient.connect(tmp_path / "none.sock", gone="It has ended; r resumes it.")
        calls = Calls()
        async with engine(calls) as path:
            client = await EngineClient.connect(path, gone="It has ended; r resumes it.")
            waiting = asyncio.create_task(client.send(Pause()))
            await calls.next()
        with pytest.raises(EngineError, match="r resumes"):
            await waiting
        await client.close()


class TestCancelling:
    async def test_cancel_reaches_the_chats_of_its_own_connection_only(self) -> None:
        calls = Calls()
        async with connected(calls) as client:
            mine = asyncio.create_task(client.send(CHAT))
            my_call = await calls.next()
            other = await EngineClient.connect(runtime_dir() / "test.sock")
            theirs = asyncio.create_task(other.send(CHAT))
            their_call = await calls.next()
            await client.send(CancelChat())
            assert my_call.cancelled.is_set()
            assert not their_call.cancelled.is_set()
            my_call.done()
            their_call.done()
            await asyncio.gather(mine, theirs)
            await other.close()

    async def test_a_caller_that_disconnects_cancels_its_call(self) -> None:
        calls = Calls()
        async with engine(calls) as path:
            client = await EngineClient.connect(path)
            chat = asyncio.create_task(client.send(CHAT))
            call = await calls.next()
            await client.close()
            with pytest.raises(EngineError):
                await chat
            assert await asyncio.to_thread(call.cancelled.wait, 10)

    async def test_a_chat_that_nobody_reads_is_cancelled(self) -> None:
        calls = Calls()
        async with connected(calls) as client:
            replies = client.stream(CHAT)
            listening = asyncio.create_task(anext(replies))
            call = await calls.next()
            call.send(TextGenerated(id=call.id, text="Well"))
            await listening
            await replies.aclose()
            assert await asyncio.to_thread(call.cancelled.wait, 10)


class TestHostileInput:
    @pytest.mark.parametrize(
        "line",
        [b"hello\n", b"\n", b"{}\n", b'{"id": "x"}\n', b"\xff\xfe\n", b"[" * 10000 + b"\n"],
    )
    async def test_an_invalid_request_ends_only_its_connection(self, line: bytes) -> None:
        async with engine(lambda call: call.done()) as path:
            assert await raw(path, line) == b""
            assert b'"done"' in await raw(path, b'{"id":1,"command":{"command":"ping"}}\n')

    async def test_an_unknown_command_is_refused(self) -> None:
        async with engine(lambda call: call.done()) as path:
            reply = await raw(path, b'{"id":7,"command":{"command":"format_disk"}}\n')
            assert b'"refused"' in reply
            assert b'"id":7' in reply

    async def test_a_line_without_end_is_disconnected(self) -> None:
        async with engine(lambda call: call.done()) as path:
            assert await raw(path, b"x" * (MAX_LINE + 100_000)) == b""
            assert b'"done"' in await raw(path, b'{"id":1,"command":{"command":"ping"}}\n')

    async def test_a_caller_that_never_reads_is_disconnected(self) -> None:
        calls = Calls()
        async with engine(calls) as path:
            _, writer = await asyncio.open_unix_connection(path)
            writer.write(b'{"id":1,"command":{"command":"pause"}}\n')
            call = await calls.next()
            while not call.cancelled.is_set():
                call.send(TextGenerated(id=1, text="x" * 1_000_000))
                await asyncio.sleep(0)
            writer.close()


class TestSocketFile:
    async def test_only_its_owner_can_use_it(self) -> None:
        async with engine(lambda call: call.done()) as path:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600

    async def test_a_dead_engines_socket_is_replaced_and_ours_is_removed(self) -> None:
        path = runtime_dir() / "test.sock"
        path.touch()
        async with connected(lambda call: call.done()) as client:
            await client.send(Ping())
        assert not path.exists()

    async def test_a_path_too_long_for_a_socket_is_an_error_with_the_path(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / ("x" * 200)
        with pytest.raises(EngineError, match="control socket can't be opened"):
            async with serving(path, lambda call: call.done()):
                pass
