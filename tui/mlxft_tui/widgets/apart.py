"""Work in parts, between which keys are handled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from textual.widget import Widget

from mlxft_tui.terminal.key_queue import KeyQueueApp

SLICE_SECONDS: Final = 0.002
"""How long parts may run back to back."""

KEY_SECONDS: Final = 0.002
"""How long parts wait before they check again whether a key is being handled."""


def call_apart(node: Widget, *parts: Callable[[], object]) -> None:
    """Run parts in turns of the event loop of their own, while no key is being handled.

    Textual runs callbacks that wait in one queue back to back, and a key passes through several
    queues.
    """
    if parts:
        asyncio.get_running_loop().call_soon(node.call_later, _run, node, parts)


def _run(node: Widget, parts: Sequence[Callable[[], object]]) -> None:
    if not node.is_attached:
        return
    if isinstance(node.app, KeyQueueApp) and node.app.handling_keys:
        asyncio.get_running_loop().call_later(KEY_SECONDS, node.call_later, _run, node, parts)
        return
    end, done = time.perf_counter() + SLICE_SECONDS, 0
    while done < len(parts) and (not done or time.perf_counter() < end):
        parts[done]()
        done += 1
    call_apart(node, *parts[done:])
