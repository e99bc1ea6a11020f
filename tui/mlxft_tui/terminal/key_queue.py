"""Queue key events so each goes to the widget focused by the previous one.

Textual sends every key to the widget that has focus when the key is read. When several keys arrive
together, as on a slow link, those after one that opens an input would go to the screen instead.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final

from textual import events, on
from textual.app import App
from textual.dom import DOMNode
from textual.driver import Driver
from textual.message import Message
from textual.message_pump import MessagePump

MIN_ROUNDS: Final = 3
"""One behind the key, one behind the messages that it caused, and one behind the widgets' requests
to be painted."""

MAX_ROUNDS: Final = 30
"""Rounds after which a key is delivered although messages keep coming."""

TICK_SECONDS: Final = 0.05
MAX_TICKS: Final = 40
"""Idle ticks after which a key no longer waits for a handler that waits for something else."""

IDLE_SHARE: Final = 0.1
"""Processor time per second below which a tick is idle: handling a key may take seconds on a busy
machine, but it takes processor time too."""

DIALOG: Final = "dialog"
"""The group of workers that open a dialog, after reading what it shows."""

OPENING_SECONDS: Final = 0.01


class RoundTrip(Message, verbose=True):
    """Follows a key through the queues, from the focused widget up to the application."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def has_messages(pump: MessagePump) -> bool:
    """Whether messages wait; Textual takes the next one out of the queue before its turn."""
    return pump.message_queue_size > 0 or pump._pending_message is not None


class KeyQueueApp(App[None]):
    """An application in which a key waits until the previous one has been handled."""

    _holding = False
    """Whether keys wait until they are released."""
    _busy = False
    """Whether a key was delivered that may not have been handled yet."""
    _rounds = 0
    _number = 0
    """Number of the latest round, counted over all keys."""
    _target: MessagePump | None = None
    """Where that round started."""
    _ticks = 0
    """Idle ticks since the key was delivered."""
    _tick: asyncio.TimerHandle | None = None
    _worked = 0.0
    """Processor time of this thread at the start of the tick."""
    _pressed_at = 0.0
    """When the latest key came."""

    def __init__(self, driver: type[Driver] | None = None) -> None:
        super().__init__(driver)
        self._queue = deque[events.Event]()

    @property
    def queued_keys(self) -> int:
        """Keys waiting for the previous one."""
        return len(self._queue)

    @property
    def handling_keys(self) -> bool:
        """Whether any key is still waiting or being handled."""
        return self._busy or bool(self._queue)

    @property
    def idle_seconds(self) -> float:
        """Seconds since the latest key."""
        return time.monotonic() - self._pressed_at

    def hold_keys(self) -> None:
        """Queue all keys until `release_keys`."""
        self._holding = True

    def release_keys(self) -> None:
        """Deliver the keys held so far, and all later ones."""
        self._holding = False
        self.call_later(self._deliver_next)

    async def on_event(self, event: events.Event) -> None:
        """Queue keys and pastes while another one is being handled."""
        if not isinstance(event, events.Key | events.Paste) or event.is_forwarded:
            await super().on_event(event)
            return
        self._pressed_at = time.monotonic()
        if self._busy or self._holding:
            self._queue.append(event)
            self._schedule_tick()
        else:
            await self._deliver(event)

    async def _deliver(self, event: events.Event) -> None:
        self._busy, self._rounds, self._ticks = True, 0, 0
        await super().on_event(event)
        self._send_round()

    def _send_round(self) -> None:
        self._rounds += 1
        self._number += 1
        self._target = self._receiver
        if not self._target.post_message(RoundTrip(self._number)):
            self.post_message(RoundTrip(self._number))

    @property
    def _receiver(self) -> MessagePump:
        """Where a key would go now."""
        return (self.focused or self.screen) if self.screen_stack else self

    @on(RoundTrip)
    async def _round_finished(self, message: RoundTrip) -> None:
        """Send another round while the key still has consequences, or deliver the next one."""
        if message.number != self._number:
            return
        if self._opens_dialog():
            self._rounds = 0
            asyncio.get_running_loop().call_later(OPENING_SECONDS, self._send_round)
        elif self._rounds < MIN_ROUNDS or (self._has_consequences() and self._rounds < MAX_ROUNDS):
            self._send_round()
        else:
            self._paint()
            await self._deliver_next()

    def _paint(self) -> None:
        """Paint what the keys changed now, rather than with the next of 60 frames a second."""
        if self.screen_stack and not self._queue:
            self.screen._on_timer_update()

    def _has_consequences(self) -> bool:
        """Whether the focus moved during the round, or messages wait that may move it."""
        if self._receiver is not self._target:
            return True
        target = self._target
        path = target.ancestors_with_self if isinstance(target, DOMNode) else [self]
        return any(has_messages(node) for node in path)

    def _opens_dialog(self) -> bool:
        """Whether a worker has yet to open its dialog, or to act on what was chosen in it."""
        # While the app closes, keys are still in flight and no screen is left.
        if not self.screen_stack or self.screen.is_modal:
            return False
        return any(worker.group == DIALOG and not worker.is_finished for worker in self.workers)

    async def _deliver_next(self) -> None:
        self._busy = False
        if self._queue:
            await self._deliver(self._queue.popleft())
            self._schedule_tick()

    def _schedule_tick(self) -> None:
        """Check later whether the queue is stuck."""
        if self._queue and self._tick is None and not self._holding:
            self._worked = time.thread_time()
            self._tick = asyncio.get_running_loop().call_later(
                TICK_SECONDS, lambda: self.call_later(self._on_tick)
            )

    async def _on_tick(self) -> None:
        self._tick = None
        if time.thread_time() - self._worked < IDLE_SHARE * TICK_SECONDS:
            self._ticks += 1
        if self._ticks >= MAX_TICKS:
            await self._deliver_next()
        elif isinstance(self._target, DOMNode) and not self._target.is_attached:
            # A round sent to a removed widget never returns.
            self._send_round()
        self._schedule_tick()
