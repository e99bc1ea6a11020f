"""Chat commands answered in the MLX thread: text as it is generated, then the whole answer."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlxft.conversation.messages import Answer
from mlxft.engine.failure import sentence
from mlxft.engine.mailbox import Call
from mlxft.engine.protocol import Answered, Chat, Progressed, SideBySide, TextGenerated
from mlxft.runs.events import ProgressMade

if TYPE_CHECKING:
    from mlxft.compute.generation.answers import Listener

Answering = Callable[[Sequence[tuple[Chat, "Listener"]]], Sequence[Answer]]
"""What generates: a model being trained, or one loaded for chat."""


SEND_SECONDS = 0.05
"""Time between two pieces of text: each wakes the thread that serves the socket, which takes the
interpreter from the one that generates."""


def answer_chat(
    call: Call, generate: Answering, log: Path, step: int | None = None
) -> Sequence[Answer]:
    """Stream the answers to the caller; returns none if the call was refused."""
    chats = _chats(call)
    streams = [TextStream(call, side, step) for side in range(len(chats))]
    try:
        answers = generate(
            [(chat, _listener(call, stream)) for chat, stream in zip(chats, streams, strict=True)]
        )
    except Exception as error:
        for stream in streams:
            stream.send()
        call.refuse(sentence(error, "Answering has failed", log))
        return ()
    call.done()
    return answers


def _chats(call: Call) -> tuple[Chat, ...]:
    match call.command:
        case SideBySide(chats=chats):
            return chats
        case Chat():
            return (call.command,)
    raise AssertionError(call.command)


class TextStream:
    """Collects one answer's text and sends it in pieces, the first one at once."""

    def __init__(
        self,
        call: Call,
        side: int,
        step: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.side = side
        self._step = step
        self._call = call
        self._clock = clock
        self._waiting: list[str] = []
        self._sent = -math.inf

    def add(self, text: str) -> None:
        """Add a token's text."""
        self._waiting.append(text)
        if self._clock() - self._sent >= SEND_SECONDS:
            self.send()

    def send(self) -> None:
        """Send what is waiting."""
        if self._waiting:
            text = "".join(self._waiting)
            self._waiting.clear()
            piece = TextGenerated(id=self._call.id, text=text, side=self.side, step=self._step)
            self._call.send(piece)
            self._sent = self._clock()

    def end(self, answer: Answer) -> None:
        """Send the whole answer."""
        self.send()
        self._call.send(Answered(id=self._call.id, answer=answer, step=self._step, side=self.side))


def _listener(call: Call, stream: TextStream) -> Listener:
    from mlxft.compute.generation.answers import Listener

    def on_prefill(done: int, total: int) -> None:
        progress = ProgressMade(stage="reading", done=done, total=total)
        call.send(Progressed(id=call.id, progress=progress, side=stream.side))

    return Listener(stream.add, call.cancelled.is_set, on_prefill, stream.end)
