"""Confirmation before something that can't be undone."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from mlxft_tui.widgets.remappable import Remappable


class ConfirmDialog(Remappable, ModalScreen[bool], keys="confirm"):
    """Returns True for y, False for n or escape; enter does nothing, as it is hit by accident."""

    CSS_PATH = "confirm.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes", id="yes"),
        Binding("n,escape,q", "answer(False)", "No", id="no"),
    ]

    def __init__(self, question: str, yes: str, no: str = "Cancel") -> None:
        super().__init__()
        self._question = question
        self._yes = yes
        self._no = no

    def compose(self) -> ComposeResult:
        with Vertical(id="confirm"):
            yield Static(Content(self._question), id="question")
            yes, no = ("y", "bold $primary"), ("n", "bold $primary")
            yield Static(
                Content.assemble(yes, f" {self._yes}   ", no, f" {self._no}"), id="answers"
            )

    def ask(self, question: str) -> None:
        """Replace the question, when what it is about has changed meanwhile."""
        if question != self._question:
            self._question = question
            self.query_one("#question", Static).update(Content(question))

    def action_answer(self, answer: bool) -> None:
        """Close with the answer."""
        self.dismiss(answer)
