"""Where a prompt is written: enter sends it, ctrl+j begins a new line."""

from __future__ import annotations

from typing import ClassVar

from textual import events, on
from textual.binding import Binding, BindingType
from textual.document._document import Location
from textual.message import Message
from textual.widgets import TextArea

from mlxft.text.printable import meant, printable
from mlxft_tui.widgets.ordered_input import run_own_binding
from mlxft_tui.widgets.remappable import Remappable, keys_of

MOST_PASTED = 65_536
"""Characters that one paste may bring."""


class PromptInput(Remappable, TextArea, keys="chat"):
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
        self.earlier: list[str] = []
        """What was asked before, the oldest first; up and down in an empty line go through it."""
        self._recalled: int | None = None
        self._original = ""
        """The text whose shown form the line was made of, with what can't be shown."""
        self._filled = ""
        """What was in the line before the user wrote in it."""

    @property
    def meant(self) -> str:
        """What was written, with what couldn't be shown of the text that it was made of."""
        return meant(self._original, self.text)

    @property
    def own(self) -> str:
        """What the user has written; nothing where the line is empty or as it was filled."""
        return "" if self.text == self._filled else self.meant

    def send(self) -> None:
        """Tell what was written, if anything."""
        if self.text.strip():
            self.post_message(self.Sent(self.meant))

    def put(self, text: str) -> None:
        """Fill the line; what can't be shown of the text is kept."""
        self._original, self._filled = text, printable(text)
        self._show(self._filled)

    def restore(self, text: str) -> None:
        """Have in the line again what the user has written."""
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
        """Whether the line holds nothing of its own."""
        at = self._recalled
        return not self.text or (at is not None and self.text == printable(self.earlier[at]))

    def _recall(self, by: int) -> None:
        count = len(self.earlier)
        before = self._recalled if self.text and self._recalled is not None else count
        at = max(0, before + by)
        self._recalled = at if at < count else None
        self.put(self.earlier[at] if at < count else "")

    async def _on_paste(self, event: events.Paste) -> None:
        """A paste of a book would hold the screen for seconds; no model here reads so much."""
        if len(event.text) > MOST_PASTED:
            told = f"Only the first {MOST_PASTED} of {len(event.text)} characters were pasted."
            self.notify(told, severity="warning")
        await super()._on_paste(events.Paste(event.text[:MOST_PASTED]))
        event.prevent_default()

    def get_cursor_line_start_location(self, smart_home: bool = False) -> Location:
        """The beginning of the line as it was written: how it is wrapped is nothing of the user's,
        and what stayed of an old text would be sent with the new one."""
        return self.cursor_location[0], 0

    def get_cursor_line_end_location(self) -> Location:
        """The end of the line as it was written."""
        row, _ = self.cursor_location
        return row, len(self.document[row])

    def action_new_line(self) -> None:
        """Begin a new line."""
        self.insert("\n")

    @on(TextArea.Changed)
    def _neutralise(self) -> None:
        """What is pasted may hold control characters, which must not reach the terminal; they are
        sent all the same."""
        clean = printable(self.text)
        if clean != self.text:
            self._original = self.meant
            self._show(clean)
