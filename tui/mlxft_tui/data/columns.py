"""Which field of the records is which: a small sheet beside the record that it changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Literal

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Static

from mlxft import recipe as recipes
from mlxft.data.columns import KEYS, SPEAKERS, not_told, turn_fields, turn_roles
from mlxft.recipe import Recipe
from mlxft.text.printable import printable_line
from mlxft_tui.frame.messages import RecipeChanged
from mlxft_tui.text.theme import MUTED
from mlxft_tui.widgets.line_list import LineList
from mlxft_tui.widgets.remappable import Remappable

Record = Mapping[str, Any]
"""A record as it is written."""

TARGETS: Final = (
    ("prompt", "what is asked"),
    ("completion", "the answer to learn"),
    ("messages", "a conversation as a list"),
    ("text", "plain text, trained whole"),
    ("system", "instructions before the prompt"),
    ("tools", "functions that can be called"),
    ("role", "in a conversation: who speaks"),
    ("content", "in a conversation: what is said"),
    ("user", "in a conversation: who asks"),
    ("assistant", "in a conversation: who answers"),
)
"""What a field can be used as, and what that is; of the last two, what a role is called."""

AS_NAMED: Final = "—"


class TargetList(LineList, keys="columns"):
    """A line for each use of a field; left and right choose the field."""

    HELP = """Which field of your records is the prompt, the completion and so on, where they have
    other names; of user and assistant, what these are called in your conversations. Left and right
    choose; the record beside shows at once what comes of it."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "left,h",
            "choose_field(-1)",
            "Field",
            key_display="←→",
            tooltip="Another field",
            id="previous_field",
        ),
        Binding("right,l", "choose_field(1)", "Next field", show=False, id="next_field"),
        Binding("backspace,delete", "clear", "As named", tooltip="Take the field of that name"),
    ]

    class FieldsChanged(Message):
        """Another field was chosen for a use."""

        def __init__(self, columns: dict[str, str]) -> None:
            super().__init__()
            self.columns = columns

    def __init__(self, records: Sequence[Record], columns: Mapping[str, str]) -> None:
        super().__init__()
        self._records = records
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
        choices = ("", *(name for name in self._names(target) if name != target))
        present = self.columns.get(target, "")
        at = choices.index(present) if present in choices else 0
        self._set(target, choices[(at + direction) % len(choices)])

    def _names(self, target: str) -> Sequence[str]:
        """What the records offer for a use, after what was chosen for the others."""
        if target in KEYS:
            return self._not_taken(target, KEYS, turn_fields(self._records, self.columns))
        if target in SPEAKERS:
            return self._not_taken(target, SPEAKERS, turn_roles(self._records, self.columns))
        return fields_of(self._records)

    def _not_taken(self, target: str, uses: Sequence[str], names: Sequence[str]) -> Sequence[str]:
        """The names without those of the other uses, since the recipe refuses one for two."""
        taken = {self.columns.get(each) for each in uses if each != target}
        return tuple(each for each in names if each not in taken)

    def go_to(self, target: str) -> None:
        """Put the cursor on a use."""
        self.cursor = next(at for at, (name, _) in enumerate(TARGETS) if name == target)

    def action_clear(self) -> None:
        self._set(TARGETS[self.cursor][0], "")

    def _set(self, target: str, field: str) -> None:
        if field:
            self.columns = {**self.columns, target: field}
        else:
            self.columns = {use: each for use, each in self.columns.items() if use != target}
        self.refresh()
        self.post_message(self.FieldsChanged(self.columns))


class ColumnsDialog(Remappable, ModalScreen[bool], keys="columns"):
    """Tells each choice at once as a changed recipe; True where it shall be kept.

    On False the recipe is told as it was.
    """

    CSS_PATH = "columns.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "answer(True)", "Keep", priority=True, id="keep"),
        Binding("escape,q", "answer(False)", "As before", id="cancel"),
    ]

    def __init__(self, records: Sequence[Record], recipe: Recipe) -> None:
        super().__init__()
        self._records = records
        self._recipe = recipe

    def compose(self) -> ComposeResult:
        with Vertical(id="columns") as sheet:
            sheet.border_title = "which field is which"
            sheet.border_subtitle = "←→ field  enter keeps  esc as before"
            yield TargetList(self._records, self._recipe.columns)
            yield Static(self._known(self._recipe.columns), id="known")

    def _known(self, columns: Mapping[str, str]) -> Content:
        names = ", ".join(printable_line(each) for each in fields_of(self._records))
        known = f"fields: {names}" if names else "no fields were found"
        if of_messages := turn_fields(self._records, columns):
            within = ", ".join(printable_line(each) for each in of_messages)
            known += f"; in a conversation: {within}"
        return Content.styled(known, MUTED)

    def on_target_list_fields_changed(self, message: TargetList.FieldsChanged) -> None:
        self.query_one("#known", Static).update(self._known(message.columns))
        changed = recipes.replace(self._recipe, "columns", message.columns)
        self.post_message(RecipeChanged(changed))

    def action_answer(self, answer: bool) -> None:
        """Close with the answer; a conversation half told is not kept."""
        targets = self.query_one(TargetList)
        missing = not_told(self._records, targets.columns) if answer else ""
        if missing:
            targets.go_to(missing)
            lacks = f"The messages have no {missing}: choose its key, or esc for all as before."
            self.query_one("#known", Static).update(Content.styled(lacks, "$error"))
            return
        if not answer:
            self.post_message(RecipeChanged(self._recipe))
        self.dismiss(answer)


def fields_of(records: Sequence[Record]) -> tuple[str, ...]:
    """The names of fields that these records have."""
    return tuple(dict.fromkeys(field for record in records for field in record))
