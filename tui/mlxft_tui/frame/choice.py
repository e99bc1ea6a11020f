"""A dialog to choose one of several named items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Input, Static

from mlxft.text.printable import printable_line
from mlxft_tui.frame.sheet import Sheet
from mlxft_tui.text.cells import shortened
from mlxft_tui.text.theme import MUTED
from mlxft_tui.widgets.line_list import LineList
from mlxft_tui.widgets.ordered_input import OrderedInput

MAX_NAME_CELLS = 30

ABOUT_LINES = 3
"""A gap, and the description of the selected item."""

FILTER_LINES = 2
"""The line in which a filter is typed, and a gap."""


class ChoiceList(LineList):
    """One line per item: its name and description."""

    HELP = "{choice.accept} selects, {choice.cancel} cancels."

    def __init__(self, choices: Sequence[tuple[str, str]], selected: int) -> None:
        super().__init__()
        self._choices = choices
        self._selected = selected
        self._name_cells = min(MAX_NAME_CELLS, max(len(name) for name, _ in choices))
        self._listed: Sequence[int] = range(len(choices))

    def on_mount(self) -> None:
        self.count = len(self._choices)
        self.cursor = self._selected

    @property
    def chosen(self) -> int | None:
        """The item under the cursor; None if the list is empty."""
        return self._listed[self.cursor] if self._listed else None

    def keep(self, text: str) -> None:
        """List the items that have every word of a text; the cursor stays on its item, or goes to
        the first one with the text in its name."""
        words, before = text.lower().split(), self.chosen
        texts = [(name.lower(), f"{name} {about}".lower()) for name, about in self._choices]
        found = [at for at, (_, text) in enumerate(texts) if all(each in text for each in words)]
        named = [at for at in found if all(each in texts[at][0] for each in words)]
        best = named or found
        self._listed = found
        self.count = len(found)
        if best:
            self.cursor = found.index(before if before in best else best[0])
        self.refresh()

    def line(self, index: int, width: int) -> Content:
        name, description = self._choices[self._listed[index]]
        shown = Content(shortened(name, self._name_cells)).truncate(self._name_cells, pad=True)
        return Content.assemble(shown, "  ", (description, MUTED)).truncate(width, ellipsis=True)


class ChoiceDialog(Sheet[int], keys="choice"):
    """Returns the index of the chosen item, or None if cancelled."""

    CSS_PATH = "choice.tcss"
    CLICK_ACCEPTS = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "accept", "Select", priority=True),
        Binding("escape,q", "cancel", "Cancel"),
        Binding("up", "move(-1)", "Up", show=False, id="up", tooltip="Up while typing"),
        Binding("down", "move(1)", "Down", show=False, id="down", tooltip="Down while typing"),
    ]

    def __init__(
        self,
        title: str,
        choices: Sequence[tuple[str, str]],
        selected: int = 0,
        *,
        filtered: bool = False,
    ) -> None:
        """`filtered` is for long lists: what is typed leaves only the items that have it."""
        super().__init__()
        self._heading = title
        self._choices = choices
        self._list = ChoiceList(choices, selected)
        self._filter = OrderedInput(compact=True, placeholder="type to filter")
        self._filter.cursor_blink = False
        self._is_filtered = filtered

    def compose(self) -> ComposeResult:
        with Vertical(id="choice") as dialog:
            dialog.border_title = self._heading
            lines = len(self._choices) + 2 + ABOUT_LINES
            dialog.styles.height = lines + FILTER_LINES if self._is_filtered else lines
            if self._is_filtered:
                with Horizontal():
                    yield Static("filter", classes="name")
                    yield self._filter
            yield self._list
            yield Static(id="about")

    def on_mount(self) -> None:
        if self._is_filtered:
            self._filter.focus()
        self._describe()

    @on(Input.Changed)
    def _filtered(self, message: Input.Changed) -> None:
        message.stop()
        self._list.keep(message.value)
        self._describe()

    @on(LineList.Moved)
    def _describe(self) -> None:
        """Write the full description of an item, which its line may have truncated."""
        chosen = self._list.chosen
        text = f"Nothing has {printable_line(self._filter.value)}."
        if chosen is not None:
            text = self._choices[chosen][1].strip()
        self.query_one("#about", Static).update(Content.styled(text, MUTED))

    def action_move(self, by: Literal[-1, 1]) -> None:
        """Move the cursor; the list has the key itself where nothing is typed."""
        self._list.action_move(by)

    def shown(self) -> int | None:
        return self._list.chosen
