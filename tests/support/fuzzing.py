"""Requests that no viewer would send, to the engine of a run that trains."""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import psutil

from mlxft.engine import address
from mlxft.engine.protocol import MAX_LINE, Request
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory
from support.project import events_of, eventually

ANSWER_SECONDS: Final = 60.0

PER_CONNECTION: Final = 25

COMMANDS: Final = (
    *("ping", "continue", "save_checkpoint", "validate", "skip", "set_learning_rate"),
    *("open_model", "preview", "measure_tokens", "chat", "side_by_side", "answer_all", "export"),
    *("cancel_chat", "measure_speed", "evaluate", "run", "", "Ping"),
)
"""Those that neither stop nor pause the run."""

_FORBIDDEN: Final = ("stop", "pause")

_CHAT: Final = {
    "command": "chat",
    "question": {
        "messages": [{"role": "user", "content": "Turn on lamp 3"}],
        "sampling": {"max_tokens": 3},
    },
}
_EXPORT: Final = {
    "command": "export",
    "adapter": "a",
    "recipe": {},
    "form": "mlx",
    "out": "/dev/null/x",
    "origin": {"model": "m", "run": "r"},
}
_WHOLE: Final[tuple[dict[str, Any], ...]] = (
    _CHAT,
    _EXPORT,
    {"command": "side_by_side", "chats": [_CHAT, _CHAT]},
    {"command": "answer_all", "questions": [_CHAT["question"]]},
    {"command": "set_learning_rate", "value": 0.001},
    {"command": "set_learning_rate", "value": 0.001, "was": 1e-30},
    {"command": "set_learning_rate", "value": 0.001, "was": -1},
    {"command": "set_learning_rate", "value": 0},
    {"command": "preview", "record": {}, "recipe": {"batch_size": -1}},
)
_VALUES: Final[tuple[Any, ...]] = (
    *(None, True, 0, -1, 2**63, 2**200, 1e308, -1e-308, 0.5, "", "x" * 5000, "\x00", "\ud800"),
    *([], [[]], {}, {"command": "ping"}, "../../etc/passwd", "/dev/zero", [1] * 500),
)


@dataclass(frozen=True)
class Fuzzed:
    """What many requests have done to a run."""

    requests: int
    answered: int
    refused: int
    unanswered: int
    """Requests with an id that got neither reply nor the end of their connection in time."""
    steps: int
    """Trained meanwhile and after it."""
    still_trains: bool
    growth: int
    """Of the engine's memory, in bytes."""


def fuzz(run: RunDirectory, seed: int, count: int) -> Fuzzed:
    """Send so many requests to a live run, on connections of some each, and read the replies."""
    chance = random.Random(seed)
    process = psutil.Process(run.process)
    before, memory = _step(run), process.memory_info().rss
    answered = refused = unanswered = 0
    for start in range(0, count, PER_CONNECTION):
        # A line without an id ends the connection, and with it what follows.
        with_ids = chance.random() < 0.8
        lines = [_line(chance, with_ids) for _ in range(min(PER_CONNECTION, count - start))]
        replies, missing = _exchange(run, lines)
        answered += sum(each.get("reply") == "done" for each in replies)
        refused += sum(each.get("reply") == "refused" for each in replies)
        unanswered += missing
    reached = _step(run)
    eventually(lambda: not run.is_live() or _step(run) > reached)
    return Fuzzed(
        requests=count,
        answered=answered,
        refused=refused,
        unanswered=unanswered,
        steps=_step(run) - before,
        still_trains=run.is_live() and _step(run) > reached,
        growth=process.memory_info().rss - memory if run.is_live() else 0,
    )


def _step(run: RunDirectory) -> int:
    steps = [each.step for each in events_of(run) if isinstance(each, ev.StepFinished)]
    return steps[-1] if steps else 0


def _exchange(run: RunDirectory, lines: list[bytes]) -> tuple[list[dict[str, Any]], int]:
    """Send lines; the replies, and how many requests got none although the connection stayed."""
    wanted = {found for each in lines if (found := _number(each)) is not None}
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(ANSWER_SECONDS)
        caller.connect(str(address.read(run)))
        try:
            caller.sendall(b"".join(lines))
        except OSError:
            return [], 0  # The engine has ended the connection.
        replies, rest, end = list[dict[str, Any]](), b"", time.monotonic() + ANSWER_SECONDS
        while wanted and time.monotonic() < end:
            try:
                data = caller.recv(1 << 16)
            except TimeoutError:
                break
            except OSError:
                data = b""
            if not data:
                return replies, 0
            *whole, rest = (rest + data).split(b"\n")
            replies += [json.loads(each) for each in whole]
            wanted -= {each["id"] for each in replies if each["reply"] in ("done", "refused")}
    return replies, len(wanted)


class _Numbered(msgspec.Struct):
    id: int


def _number(line: bytes) -> int | None:
    try:
        return msgspec.json.decode(line, type=_Numbered).id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _line(chance: random.Random, with_id: bool) -> bytes:
    """One request, or something like it, that doesn't stop the run."""
    while True:
        line = next(_lines(chance)).replace(b"\n", b" ") + b"\n"
        if with_id and _number(line) is None:
            continue
        try:
            command = msgspec.json.decode(line, type=Request).command
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return line
        if type(command).__name__.lower() not in _FORBIDDEN:
            return line


def _lines(chance: random.Random) -> Iterator[bytes]:
    kind = chance.random()
    if kind < 0.35:
        yield _encoded(chance, _command(chance))
    elif kind < 0.6:
        yield _encoded(chance, chance.choice(_WHOLE))
    elif kind < 0.85:
        yield _mutated(chance, _encoded(chance, chance.choice(_WHOLE)))
    elif kind < 0.95:
        yield json.dumps(chance.choice(_VALUES)).encode()
    elif kind < 0.97:
        yield b"[" * chance.randrange(1, 20_000)
    elif kind < 0.999:
        yield chance.randbytes(chance.randrange(1, 2000))
    else:
        yield b'{"id":1,"command":"' + b"x" * MAX_LINE


def _command(chance: random.Random) -> dict[str, Any]:
    names = ("value", "was", "question", "chats", "adapter", "recipe", "path", "folder", "model")
    fields = {chance.choice(names): chance.choice(_VALUES) for _ in range(chance.randrange(4))}
    return {"command": chance.choice(COMMANDS), **fields}


def _encoded(chance: random.Random, command: Any) -> bytes:
    number = chance.choice([chance.randrange(1000), -1, 2**62, "one", None])
    return json.dumps({"id": number, "command": command}).encode()


def _mutated(chance: random.Random, line: bytes) -> bytes:
    """With some bytes cut out, replaced or doubled."""
    data = bytearray(line)
    for _ in range(chance.randrange(1, 6)):
        at = chance.randrange(len(data))
        match chance.randrange(3):
            case 0:
                data[at] = chance.randrange(256)
            case 1:
                del data[at : at + chance.randrange(1, 9)]
            case _:
                data[at:at] = data[at : at + chance.randrange(1, 9)]
        data = data or bytearray(b"0")
    return bytes(data)
