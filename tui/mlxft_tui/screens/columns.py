"""Which field of the records is which: a small sheet beside the record that it changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final, Literal

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Static

from mlxft import recipe as recipes
from mlxft.data.columns import OF_MESSAGES
from mlxft.data.printable import printable_line
from mlxft.recipe import Recipe
from mlxft_tui.messages import RecipeChanged
from mlxft_tui.theme import MUTED
from mlxft_tui.widgets.line_list import LineList

TARGETS: Final = (
    ("prompt", "what is asked"),
    ("completion", "the answer to learn"),
    ("messages", "a conversation as a list"),
    ("text", "plain text, trained whole"),
    ("system", "instructions before the prompt"),
    ("tools", "functions that can be called"),
    ("role", "in a conversation: who speaks"),
    ("content", "in a conversation: what is said"),
)
"""What a field can be used as, and what that is."""

AS_NAMED: Final = "—"


class TargetList(LineList):
    """A line for each use of a field; left and right choose the field."""

    HELP = """Which field of your records is the prompt, the completion and so on, where they have
    other names. Left and right choose a field; the record beside shows at once what comes of it."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "choose_field(-1)", "Field", key_display="←→", tooltip="Another field"),
        Binding("right,l", "choose_field(1)", "Next field", show=False),
        Binding("backspace,delete", "clear", "As named", tooltip="Take the field of that name"),
    ]

    class FieldsChanged(Message):
        """Another field was chosen for a use."""

        def __init__(self, columns: dict[str, str]) -> None:
            super().__init__()
            self.columns = columns

    def __init__(
        self, fields: Sequence[str], of_messages: Sequence[str], columns: Mapping[str, str]
    ) -> None:
        super().__init__()
        self._fields = tuple(fields)
        self._of_messages = tuple(of_messages)
        self.columns = dict(columns)

    def on_mount(self) -> None:
        self.count = len(TARGETS)

    def line(self, index: int, width: int) -> Content:
        target, meaning = TARGETS[index]
        field = self.columns.get(target)
        chosen = (printable_line(field), "bold $accent") if field else (AS_NAMED, MUTED)
        return Content.assemble(
            (f"{target:<11}", "bold"), "‹ ", chosen, " ›", (f"  {meaning}", MUTED)
        )

    def action_choose_field(self, direction: Literal[-1, 1]) -> None:
        """The next or the last field for the use under the cursor."""
        target = TARGETS[self.cursor][0]
        fields = self._of_messages if target in OF_MESSAGES else self._fields
        choices = ("", *(field for field in fields if field != target))
        present = self.columns.get(target, "")
        at = choices.index(present) if present in choices else 0
        self._set(target, choices[(at + direction) % len(choices)])

    def action_clear(self) -> None:
        self._set(TARGETS[self.cursor][0], "")

    def _set(self, target: str, field: str) -> None:
        if field:
            self.columns = {**self.columns, target: field}
        else:
            self.columns = {use: each for use, each in self.columns.items() if use != target}
        self.refresh()
        self.post_message(self.FieldsChanged(self.columns))


class ColumnsSheet(ModalScreen[bool]):
    """Tells each choice at once as a changed recipe; True where it shall be kept.

    On False the recipe is told as it was.
    """

    CSS_PATH = "columns.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "answer(True)", "Keep", priority=True),
        Binding("escape,q", "answer(False)", "As before"),
    ]

    def __init__(self, fields: Sequence[str], of_messages: Sequence[str], recipe: Recipe) -> None:
        super().__init__()
        self._fields = fields
        self._of_messages = of_messages
        self._recipe = recipe

    def compose(self) -> ComposeResult:
        with Vertical(id="columns") as sheet:
            sheet.border_title = "which field is which"
            sheet.border_subtitle = "←→ field  enter keeps  esc as before"
            yield TargetList(self._fields, self._of_messages, self._recipe.columns)
            yield Static(self._known(), id="known")

    def _known(self) -> Content:
        names = ", ".join(printable_line(each) for each in self._fields)
        known = f"fields: {names}" if names else "no fields were found"
        if self._of_messages:
            within = ", ".join(printable_line(each) for each in self._of_messages)
            known += f"; in a conversation: {within}"
        return Content.styled(known, MUTED)

    def on_target_list_fields_changed(self, message: TargetList.FieldsChanged) -> None:
        changed = recipes.replace(self._recipe, "columns", message.columns)
        self.post_message(RecipeChanged(changed))

    def action_answer(self, answer: bool) -> None:
        """Close with the answer."""
        if not answer:
            self.post_message(RecipeChanged(self._recipe))
        self.dismiss(answer)
