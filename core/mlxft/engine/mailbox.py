"""How commands get from the socket's thread to the MLX thread, and answers back."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from mlxft.engine.protocol import AnyCommand, AnyReply, Done, Refused


@dataclass(frozen=True)
class Call:
    """A command and the way back to who gave it; any thread may answer."""

    id: int
    command: AnyCommand
    send: Callable[[AnyReply], None]
    cancelled: threading.Event = field(default_factory=threading.Event)
    """Set when the caller wants no answer any more, or has gone."""

    def done(self) -> None:
        """The command was taken, or its answer is complete."""
        self.send(Done(id=self.id))

    def refuse(self, message: str) -> None:
        """The command can't be followed, and why."""
        self.send(Refused(id=self.id, message=message))


class Mailbox:
    """Calls waiting for the MLX thread to reach a safe point."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls: deque[Call] = deque()

    def post(self, call: Call) -> None:
        """Add a call; the MLX thread wakes if it waits."""
        with self._changed:
            self._calls.append(call)
            self._changed.notify()

    def post_first(self, call: Call) -> None:
        """Add a call that all others wait for."""
        with self._changed:
            self._calls.appendleft(call)
            self._changed.notify()

    def take(self) -> Call | None:
        """The oldest call, None where there is none."""
        with self._changed:
            return self._calls.popleft() if self._calls else None

    def wait(self) -> Call:
        """The oldest call, waiting for one."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._calls))
            return self._calls.popleft()

    def waiting(self, *kinds: type[AnyCommand]) -> bool:
        """Whether a command of one of these kinds has not been taken yet."""
        with self._changed:
            return any(isinstance(call.command, kinds) for call in self._calls)
