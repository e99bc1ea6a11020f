"""Confirmation before something that can't be undone."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from mlxft_tui.frame.sheet import Sheet
from mlxft_tui.widgets.remappable import shown_key


class ConfirmDialog(Sheet[bool], keys="confirm"):
    """Returns True for y, None for n or escape; enter does nothing, as it is hit by accident."""

    CSS_PATH = "confirm.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "accept", "Yes", id="yes"),
        Binding("n,escape,q", "cancel", "No", id="no"),
    ]

    def __init__(self, question: str, yes: str, no: str = "Cancel") -> None:
        super().__init__()
        self._question = question
        self._yes = yes
        self._no = no

    def compose(self) -> ComposeResult:
        with Vertical(id="confirm"):
            yield Static(Content(self._question), id="question")
            yes, no = shown_key(self, "confirm.yes", "y"), shown_key(self, "confirm.no", "n")
            style = "bold $primary"
            answers = ((yes, style), f" {self._yes}   ", (no, style), f" {self._no}")
            yield Static(Content.assemble(*answers), id="answers")

    def ask(self, question: str) -> None:
        """Replace the question, when what it is about has changed meanwhile."""
        if question != self._question:
            self._question = question
            self.query_one("#question", Static).update(Content(question))

    def shown(self) -> bool:
        return True
