"""A question before something that can't be undone."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from mlxft_tui.widgets.remappable import Remappable


class Confirm(Remappable, ModalScreen[bool], keys="confirm"):
    """Answers True to y, False to n or escape; enter is too easily struck."""

    CSS_PATH = "confirm.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes", id="yes"),
        Binding("n,escape,q", "answer(False)", "No", id="no"),
    ]

    def __init__(self, question: str, deed: str, stay: str = "go on") -> None:
        super().__init__()
        self._question = question
        self._deed = deed
        self._stay = stay

    def compose(self) -> ComposeResult:
        with Vertical(id="confirm"):
            yield Static(Content(self._question), id="question")
            yes, no = ("y", "bold $primary"), ("n", "bold $primary")
            yield Static(
                Content.assemble(yes, f" {self._deed}   ", no, f" {self._stay}"), id="answers"
            )

    def ask(self, question: str) -> None:
        """Ask this instead, since what the question was about has gone on."""
        if question != self._question:
            self._question = question
            self.query_one("#question", Static).update(Content(question))

    def action_answer(self, answer: bool) -> None:
        """Close with the answer."""
        self.dismiss(answer)
