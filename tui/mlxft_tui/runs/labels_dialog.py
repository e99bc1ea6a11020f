"""A dialog for what a person says about a run: its name, tags and notes."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Input, Static

from mlxft.text.printable import printable_line
from mlxft_tui.frame.sheet import FIELD_BINDINGS, Sheet
from mlxft_tui.widgets.ordered_input import OrderedInput

FIELDS = (
    ("name", "shown in place of the folder's name"),
    ("tags", "separated by commas"),
    ("notes", "what you want to remember"),
)


class LabelsDialog(Sheet[dict[str, str]], keys="labels"):
    """Returns the text of each field that was changed; None if cancelled."""

    CSS_PATH = "labels_dialog.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        *FIELD_BINDINGS,
        Binding("escape", "cancel", "Cancel"),
    ]

    def __init__(self, title: str, values: dict[str, str]) -> None:
        super().__init__()
        self._heading = title
        self._values = {name: printable_line(values[name]) for name, _ in FIELDS}

    def compose(self) -> ComposeResult:
        with Vertical(id="labels") as dialog:
            dialog.border_title = printable_line(self._heading)
            for name, purpose in FIELDS:
                with Horizontal():
                    yield Static(name, classes="name")
                    field = OrderedInput(
                        self._values[name], placeholder=purpose, id=f"label-{name}", compact=True
                    )
                    field.cursor_blink = False
                    yield field

    def shown(self) -> dict[str, str]:
        written = {name: self.query_one(f"#label-{name}", Input).value for name, _ in FIELDS}
        return {name: text for name, text in written.items() if text != self._values[name]}
