"""The prompt line: enter sends, ctrl+j inserts a new line."""

from __future__ import annotations

from typing import ClassVar

from textual import events, on
from textual.binding import Binding, BindingType
from textual.document._document import Location
from textual.message import Message
from textual.widgets import TextArea

from mlxft.text.printable import meant, printable
from mlxft_tui.widgets.notices import warn
from mlxft_tui.widgets.ordered_input import run_own_binding
from mlxft_tui.widgets.remappable import Remappable, keys_of

MOST_PASTED = 65_536
"""The maximum number of characters per paste."""


class PromptInput(Remappable, TextArea, keys="chat"):
    """A text area that grows with its text up to a few lines."""

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
        self.earlier: list[str] = []
        """Earlier prompts, oldest first; up and down recall them in an empty line."""
        self._recalled: int | None = None
        self._original = ""
        """The text the line was filled with, including characters that can't be shown."""
        self._filled = ""
        """The text the line was filled with, as shown."""

    @property
    def meant(self) -> str:
        """The text, with the characters of the original that can't be shown."""
        return meant(self._original, self.text)

    @property
    def own(self) -> str:
        """The text if the user wrote or changed it, else empty."""
        return "" if self.text == self._filled else self.meant

    def send(self) -> None:
        """Send the text, if any."""
        if self.text.strip():
            self.post_message(self.Sent(self.meant))

    def put(self, text: str) -> None:
        """Fill the line; characters that can't be shown are kept."""
        self._original, self._filled = text, printable(text)
        self._show(self._filled)

    def restore(self, text: str) -> None:
        """Put the user's own text back."""
        self.put(text)
        self._filled = ""

    def _show(self, text: str) -> None:
        self.load_text(text)
        self.move_cursor(self.document.end)

    async def _on_key(self, event: events.Key) -> None:
        if event.key in keys_of(self, "chat.send", "enter"):
            event.stop()
            event.prevent_default()
            self.send()
            return
        if event.key in ("up", "down") and self._recalls():
            event.stop()
            event.prevent_default()
            self._recall(-1 if event.key == "up" else 1)
            return
        await run_own_binding(self, event)

    def _recalls(self) -> bool:
        """Whether the line is empty or holds a recalled prompt."""
        at = self._recalled
        return not self.text or (at is not None and self.text == printable(self.earlier[at]))

    def _recall(self, by: int) -> None:
        count = len(self.earlier)
        before = self._recalled if self.text and self._recalled is not None else count
        at = max(0, before + by)
        self._recalled = at if at < count else None
        self.put(self.earlier[at] if at < count else "")

    async def _on_paste(self, event: events.Paste) -> None:
        """Cut a huge paste, which would freeze the screen for seconds."""
        if len(event.text) > MOST_PASTED:
            notice = f"Only the first {MOST_PASTED} of {len(event.text)} characters were pasted."
            warn(self, notice)
        await super()._on_paste(events.Paste(event.text[:MOST_PASTED]))
        event.prevent_default()

    def get_cursor_line_start_location(self, smart_home: bool = False) -> Location:
        """The start of the unwrapped line.

        With Textual's, ctrl+u in a wrapped line would leave old text that is sent with the new.
        """
        return self.cursor_location[0], 0

    def get_cursor_line_end_location(self) -> Location:
        """The end of the unwrapped line."""
        row, _ = self.cursor_location
        return row, len(self.document[row])

    def action_new_line(self) -> None:
        """Insert a new line."""
        self.insert("\n")

    @on(TextArea.Changed)
    def _neutralise(self) -> None:
        """Show pasted control characters as symbols; they are sent unchanged."""
        clean = printable(self.text)
        if clean != self.text:
            self._original = self.meant
            self._show(clean)
