"""Keys that arrive together, as on a slow link, keep their order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from textual import events
from textual.app import App, ComposeResult
from textual.widget import Widget

from mlxft_tui.chat.prompt_input import PromptInput
from mlxft_tui.widgets.ordered_input import OrderedInput


class Lines(App[None]):
    """Records what is sent from an input."""

    def __init__(self, make: Callable[[], Widget]) -> None:
        super().__init__()
        self.make = make
        self.sent: list[str] = []

    def compose(self) -> ComposeResult:
        yield self.make()

    def on_input_submitted(self, message: Any) -> None:
        self.sent.append(message.value)

    def on_prompt_input_sent(self, message: PromptInput.Sent) -> None:
        self.sent.append(message.text)


@pytest.mark.parametrize("make", [OrderedInput, lambda: PromptInput("Write")])
class TestKeysPressedTogether:
    async def test_they_keep_their_order(self, make: Callable[[], Widget]) -> None:
        app = Lines(make)
        async with app.run_test() as pilot:
            for key, character in (
                *((each, each) for each in "abc"),
                ("backspace", None),
                ("d", "d"),
                ("left", None),
                ("e", "e"),
                ("enter", None),
            ):
                app.post_message(events.Key(key, character))
            await pilot.pause()
            assert app.sent == ["abed"]
