"""Carries commands from the socket's thread to the MLX thread, and replies back."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from mlxft.engine.protocol import AnyCommand, AnyReply, Done, Progressed, Refused
from mlxft.runs.events import ProgressMade, ProgressStage


@dataclass(frozen=True)
class Call:
    """A command and the way to reply to its caller, from any thread."""

    id: int
    command: AnyCommand
    send: Callable[[AnyReply], None]
    cancelled: threading.Event = field(default_factory=threading.Event)
    """Set when the caller has cancelled or disconnected."""

    def done(self) -> None:
        """Report that the command is accepted, or its answer complete."""
        self.send(Done(id=self.id))

    def progressed(self, stage: ProgressStage, done: int, total: int) -> None:
        """Report how much of the answer is made."""
        progress = ProgressMade(stage=stage, done=done, total=total)
        self.send(Progressed(id=self.id, progress=progress))

    def refuse(self, message: str) -> None:
        """Report why the command can't be followed."""
        self.send(Refused(id=self.id, message=message))


class Mailbox:
    """Calls that wait for the MLX thread to reach a safe point."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls: deque[Call] = deque()

    def __len__(self) -> int:
        with self._changed:
            return len(self._calls)

    def post(self, call: Call) -> None:
        """Add a call and wake the MLX thread if it waits."""
        with self._changed:
            self._calls.append(call)
            self._changed.notify()

    def post_first(self, call: Call) -> None:
        """Add a call ahead of all others."""
        with self._changed:
            self._calls.appendleft(call)
            self._changed.notify()

    def take(self) -> Call | None:
        """The oldest call; None if there is none."""
        with self._changed:
            return self._calls.popleft() if self._calls else None

    def wait(self) -> Call:
        """Wait for a call; the oldest one."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._calls))
            return self._calls.popleft()

    def waiting(self, *kinds: type[AnyCommand]) -> bool:
        """Whether a command of one of these types is waiting."""
        with self._changed:
            return any(isinstance(call.command, kinds) for call in self._calls)
