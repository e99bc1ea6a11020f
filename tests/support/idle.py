"""Wait until the application under a pilot is idle, also on a busy machine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from textual import _wait
from textual._context import active_app
from textual.message_pump import MessagePump

from mlxft_tui.terminal.key_queue import has_messages

TURNS = 20
"""Turns of the event loop without a message after which nothing is running."""

PATIENCE_SECONDS = 30.0


def pumps() -> Iterator[MessagePump]:
    """Everything in the application that has a queue of messages."""
    app = active_app.get()
    yield app
    for screen in app.screen_stack:
        yield from screen.walk_children(with_self=True)


async def wait_until_idle(min_sleep: float = 0.0, max_sleep: float = 1.0) -> None:
    """Wait as Textual does, and then until no message waits and everything is painted.

    Textual takes a process that got no processor time for an idle one, and waits for a second at
    most.
    """
    await _wait.wait_for_idle(min_sleep, max_sleep)
    app, quiet = active_app.get(), 0
    async with asyncio.timeout(PATIENCE_SECONDS):
        while quiet < TURNS:
            if any(pump.is_running and has_messages(pump) for pump in pumps()):
                quiet = 0
            elif app.is_running and app.screen_stack:
                # What is due with the next frame may cause messages.
                app.screen._on_timer_update()
            quiet += 1
            await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def waits_for_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pilots wait until no message is left."""
    monkeypatch.setattr("textual.pilot.wait_for_idle", wait_until_idle)
    monkeypatch.setattr("textual.app.wait_for_idle", wait_until_idle)
