"""The dialog that maps the records' fields to prompt, completion and so on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Literal

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from mlxft import recipe as recipes
from mlxft.data.columns import KEYS, SPEAKERS, missing_key, turn_fields, turn_roles
from mlxft.recipe import Recipe
from mlxft.text.printable import printable_line
from mlxft_tui.frame.messages import RecipePreviewed
from mlxft_tui.frame.sheet import Sheet
from mlxft_tui.text.theme import MUTED
from mlxft_tui.widgets.line_list import LineList
from mlxft_tui.widgets.remappable import shown_key

Record = Mapping[str, Any]
"""A record as written in the file."""

TARGETS: Final = (
    ("prompt", "the question or task"),
    ("completion", "the answer to train"),
    ("messages", "a conversation as a list"),
    ("text", "plain text, trained whole"),
    ("system", "instructions before the prompt"),
    ("tools", "functions the model may call"),
    ("role", "in a message: its sender"),
    ("content", "in a message: its text"),
    ("user", "the role name of the user"),
    ("assistant", "the role name of the assistant"),
)
"""What a field can be used as; the last two map role names."""

AS_NAMED: Final = "—"


class TargetList(LineList, keys="columns"):
    """A line per use; left and right choose the field for it."""

    HELP = """Which field of your records is the prompt, the completion and so on, if yours have
    other names; for user and assistant, the names of these roles in your conversations. Left and
    right choose; the record shows the effect at once."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "left,h",
            "choose_field(-1)",
            "Field",
            key_display="←→",
            tooltip="Previous field",
            id="previous_field",
        ),
        Binding("right,l", "choose_field(1)", "Next field", show=False, id="next_field"),
        Binding("backspace,delete", "clear", "Default", tooltip="Use the field of that name"),
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
        """Choose the next or previous field for the use under the cursor."""
        target = TARGETS[self.cursor][0]
        choices = ("", *(name for name in self._names(target) if name != target))
        present = self.columns.get(target, "")
        at = choices.index(present) if present in choices else 0
        self._set(target, choices[(at + direction) % len(choices)])

    def _names(self, target: str) -> Sequence[str]:
        """The names the records offer for a use, given the other choices."""
        if target in KEYS:
            return self._not_taken(target, KEYS, turn_fields(self._records, self.columns))
        if target in SPEAKERS:
            return self._not_taken(target, SPEAKERS, turn_roles(self._records, self.columns))
        return fields_of(self._records)

    def _not_taken(self, target: str, uses: Sequence[str], names: Sequence[str]) -> Sequence[str]:
        """The names not chosen for other uses, since the recipe rejects a name used twice."""
        taken = {self.columns.get(each) for each in uses if each != target}
        return tuple(each for each in names if each not in taken)

    def go_to(self, target: str) -> None:
        """Move the cursor to a use."""
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


class ColumnsDialog(Sheet[Mapping[str, str]], keys="columns"):
    """Returns the columns; each choice is previewed, and cancelling shows the recipe again."""

    CSS_PATH = "columns.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "accept", "Keep", priority=True, id="keep"),
        Binding("escape,q", "cancel", "Cancel"),
    ]

    def __init__(self, records: Sequence[Record], recipe: Recipe) -> None:
        super().__init__()
        self._records = records
        self._recipe = recipe

    def compose(self) -> ComposeResult:
        with Vertical(id="columns") as dialog:
            dialog.border_title = "which field is which"
            yield TargetList(self._records, self._recipe.columns)
            yield Static(self._known(self._recipe.columns), id="known")

    def _known(self, columns: Mapping[str, str]) -> Content:
        names = ", ".join(printable_line(each) for each in fields_of(self._records))
        known = f"fields: {names}" if names else "no fields were found"
        if of_messages := turn_fields(self._records, columns):
            within = ", ".join(printable_line(each) for each in of_messages)
            known += f"; in messages: {within}"
        return Content.styled(known, MUTED)

    def on_target_list_fields_changed(self, message: TargetList.FieldsChanged) -> None:
        self.query_one("#known", Static).update(self._known(message.columns))
        if self.is_open:
            self._preview(recipes.replace(self._recipe, "columns", message.columns))

    def shown(self) -> Mapping[str, str] | None:
        """The columns; refuses a conversation whose role or content key is missing."""
        targets = self.query_one(TargetList)
        if missing := missing_key(self._records, targets.columns):
            targets.go_to(missing)
            cancel = shown_key(self, "columns.cancel", "escape")
            lacks = f"The messages have no {missing}: choose its key, or {cancel} to cancel."
            self.query_one("#known", Static).update(Content.styled(lacks, "$error"))
            return None
        return targets.columns

    def close_with(self, answer: Mapping[str, str] | None) -> None:
        if answer is None:
            self._preview(self._recipe)
        super().close_with(answer)

    def _preview(self, recipe: Recipe) -> None:
        self.app.post_message(RecipePreviewed(recipe))


def fields_of(records: Sequence[Record]) -> tuple[str, ...]:
    """The names of these records' fields."""
    return tuple(dict.fromkeys(field for record in records for field in record))
