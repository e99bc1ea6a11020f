"""Keys that come together are taken one after the other, each by whom the one before gave focus.

Textual hands every key to the widget that has the focus when the key is read. Of several that come
together, as over a slow link, those after one that opens a line would go to the screen instead.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from textual import events, on
from textual.app import App
from textual.dom import DOMNode
from textual.driver import Driver
from textual.message import Message
from textual.message_pump import MessagePump

LEAST_ROUNDS: Final = 2
"""One behind the key, and one behind the messages that were sent because of it."""

MOST_ROUNDS: Final = 6

TICK_SECONDS: Final = 0.05
MOST_TICKS: Final = 10
"""How often it is looked whether a waiting key's turn has come, until it is handed on all the same.
Looks are counted, not seconds: while the interpreter is held up no key is handled either."""


class Passed(Message, verbose=True):
    """Goes the way of a key, behind it: from the focused widget up to the application."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class KeysInTurn(App[None]):
    """An application in which a key waits until the one before has been handled."""

    _under_way = False
    """Whether a key has been handed on that may not have been handled yet."""
    _rounds = 0
    _number = 0
    """The last round's number; those of all keys are counted."""
    _target: MessagePump | None = None
    """Where that round began."""
    _looks = 0
    _tick: asyncio.TimerHandle | None = None

    def __init__(self, driver: type[Driver] | None = None) -> None:
        super().__init__(driver)
        self._waiting = deque[events.Event]()

    async def on_event(self, event: events.Event) -> None:
        """Let a key wait, and what is pasted, while another one is under way."""
        if not isinstance(event, events.Key | events.Paste) or event.is_forwarded:
            await super().on_event(event)
        elif self._under_way:
            self._waiting.append(event)
            self._look()
        else:
            await self._take(event)

    async def _take(self, event: events.Event) -> None:
        self._under_way, self._rounds, self._looks = True, 0, 0
        await super().on_event(event)
        self._send_round()

    def _send_round(self) -> None:
        self._rounds += 1
        self._number += 1
        self._target = self._taker
        if not self._target.post_message(Passed(self._number)):
            self.post_message(Passed(self._number))

    @property
    def _taker(self) -> MessagePump:
        """Who would get a key now."""
        return (self.focused or self.screen) if self.screen_stack else self

    @on(Passed)
    async def _passed(self, message: Passed) -> None:
        """Send another round while the focus moves; else it is the next key's turn."""
        if message.number != self._number:
            return
        moves = self._taker is not self._target
        if self._rounds < LEAST_ROUNDS or (moves and self._rounds < MOST_ROUNDS):
            self._send_round()
        else:
            await self._take_next()

    async def _take_next(self) -> None:
        self._under_way = False
        if self._waiting:
            await self._take(self._waiting.popleft())
            self._look()

    def _look(self) -> None:
        """Look again in a moment whether a waiting key is still to wait."""
        if self._waiting and self._tick is None:
            self._tick = asyncio.get_running_loop().call_later(
                TICK_SECONDS, lambda: self.call_later(self._looked)
            )

    async def _looked(self) -> None:
        self._tick = None
        self._looks += 1
        if self._looks >= MOST_TICKS:
            await self._take_next()
        elif isinstance(self._target, DOMNode) and not self._target.is_attached:
            # What was sent to a widget that is gone comes back no more.
            self._send_round()
        self._look()
