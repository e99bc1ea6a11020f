"""Where a prompt is written: enter sends it, ctrl+j begins a new line."""

from __future__ import annotations

from typing import ClassVar

from textual import events, on
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import TextArea

from mlxft.data.printable import printable

MOST_PASTED = 65_536
"""Characters that one paste may bring."""


class PromptInput(TextArea):
    """Grows with its text up to a few lines; its cursor doesn't blink."""

    DEFAULT_CSS = """
    PromptInput {
        height: auto;
        max-height: 8;
        padding: 0 1;
        border: none;
        border-left: thick $foreground 15%;
        background: $surface;

        &:focus {
            border: none;
            border-left: thick $primary;
        }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+j", "new_line", "New line", show=False),
    ]

    class Sent(Message):
        """Enter was pressed on a prompt that isn't empty."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self, placeholder: str) -> None:
        super().__init__(placeholder=placeholder, highlight_cursor_line=False, soft_wrap=True)
        self.cursor_blink = False

    async def _on_key(self, event: events.Key) -> None:
        if event.key == "enter":
            event.stop()
            event.prevent_default()
            if self.text.strip():
                self.post_message(self.Sent(self.text))
            return
        await super()._on_key(event)

    async def _on_paste(self, event: events.Paste) -> None:
        """A paste of a book would hold the screen for seconds; no model here reads so much."""
        await super()._on_paste(events.Paste(event.text[:MOST_PASTED]))
        event.prevent_default()

    def action_new_line(self) -> None:
        """Begin a new line."""
        self.insert("\n")

    @on(TextArea.Changed)
    def _neutralise(self) -> None:
        """What is pasted may hold control characters, which must not reach the terminal."""
        clean = printable(self.text)
        if clean != self.text:
            self.load_text(clean)
            self.move_cursor(self.document.end)
