"""What the chat is busy with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Activity:
    """The answer or evaluation in progress; calls `changed` when one begins or ends."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.hint = ""
        """What is in progress and how to stop it; empty when idle."""
        self.is_waiting = False
        """Whether nothing was received yet, so that stopping must cancel the request."""
        self.was_cancelled = False
        """Whether the request was cancelled by the user."""
        self._changed = changed

    @contextmanager
    def running(self, hint: str) -> Iterator[None]:
        """Mark the chat as busy."""
        self._set(hint)
        try:
            yield
        finally:
            self._set("")

    def received(self) -> None:
        """Note that the first reply has come."""
        self.is_waiting = False

    def cancel(self) -> None:
        """Note that the user cancelled the request."""
        self.was_cancelled = True

    def _set(self, hint: str) -> None:
        self.hint, self.is_waiting, self.was_cancelled = hint, bool(hint), False
        self._changed()
