"""The recipe as a form: one row per parameter, stepped by keys or typed in place."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content
from textual.message import Message
from textual.reactive import var
from textual.widgets import Input

from mlxft import recipe as recipes
from mlxft.errors import RecipeError
from mlxft.recipe import GROUPS, PARAMETERS, Declared, Parameter, Recipe
from mlxft.recipe.value_text import value_text
from mlxft.text import figures
from mlxft_tui.text.theme import FAINT, MUTED
from mlxft_tui.widgets.line_list import LineList
from mlxft_tui.widgets.ordered_input import OrderedInput
from mlxft_tui.widgets.remappable import Remappable

NAME_CELLS = 24
_MARKS = 2 + 2
"""Cells of the cursor and the mark."""
_VALUE_AT = _MARKS + NAME_CELLS + 1
"""Column of the values: after the marks and the name."""

LONG_KINDS: Final = ("text", "texts", "mapping")
LONG_CELLS = 40
"""Cells that a path or a prompt needs; with fewer it is typed over the parameter's name too."""

EPOCHS = Parameter(
    key="epochs",
    kind="float",
    default=None,
    declared=Declared(
        group="optimization",
        help="How often every record is seen; changes iters, and follows it.",
        step="one",
        minimum=0.01,
        maximum=100_000,
        unit="epochs",
    ),
    annotation=float,
)
"""Not a parameter of the recipe: iters counted in epochs."""


@dataclass(frozen=True)
class FormRow:
    """A line of the form: a group's heading or a parameter."""

    heading: str = ""
    parameter: Parameter | None = None


def form_rows() -> tuple[FormRow, ...]:
    rows: list[FormRow] = []
    for group in GROUPS:
        rows.append(FormRow(heading=group))
        for parameter in PARAMETERS.values():
            if parameter.declared.group == group:
                rows.append(FormRow(parameter=parameter))
                if parameter.key == "iters":
                    rows.append(FormRow(parameter=EPOCHS))
    return tuple(rows)


ROWS = form_rows()


def rows_with(text: str) -> list[int]:
    """The rows with this text in their keys; where there are none, those with it in their help."""
    wanted = text.strip().casefold().replace(" ", "_")
    shown = [(at, row.parameter) for at, row in enumerate(ROWS) if row.parameter]
    named = [at for at, parameter in shown if wanted in parameter.key.casefold()]
    words = text.strip().casefold()
    return named or [at for at, each in shown if words in each.declared.help.casefold()]


class RecipeRows(LineList, keys="form"):
    """The form's lines; left and right step a value along its scale."""

    HELP = """{list.up} and {list.down} select a parameter, {form.less} and {form.more} step it
    along its scale, {form.edit} lets you type a value. Rows marked * differ from the defaults, or
    from the preset or run compared with."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "left", "step(-1)", "Less", key_display="←", tooltip="Step the value down", id="less"
        ),
        Binding(
            "right", "step(1)", "More", key_display="→", tooltip="Step the value up", id="more"
        ),
        Binding("h", "step(-1)", "Less", show=False, id="less"),
        Binding("l", "step(1)", "More", show=False, id="more"),
        Binding("enter", "choose", "Edit", tooltip="Type the value", id="edit"),
    ]

    SCROLL_AHEAD = 8

    recipe: var[Recipe] = var(Recipe)
    steps_per_epoch: var[int | None] = var(None)
    """Steps in which every record is seen once, if known."""
    base: var[Recipe] = var(Recipe)
    """What the marks compare with: the defaults, a preset or an earlier run."""

    class Stepped(Message):
        """A value was stepped."""

        def __init__(self, parameter: Parameter, direction: Literal[-1, 1]) -> None:
            super().__init__()
            self.parameter = parameter
            self.direction = direction

    def on_mount(self) -> None:
        self.count = len(ROWS)
        self.cursor = 1

    @property
    def parameter(self) -> Parameter:
        """The parameter under the cursor."""
        return ROWS[self.cursor].parameter or EPOCHS

    def selectable(self, index: int) -> bool:
        return ROWS[index].parameter is not None

    def watch_recipe(self, old: Recipe, new: Recipe) -> None:
        if old.loss != new.loss:
            self.refresh()
        for index, row in enumerate(ROWS):
            if row.parameter and self._value(row.parameter, old) != self._value(row.parameter, new):
                self.refresh_line(index)

    def watch_steps_per_epoch(self) -> None:
        for index, row in enumerate(ROWS):
            if row.parameter is EPOCHS:
                self.refresh_line(index)

    def watch_base(self) -> None:
        self.refresh()

    def line_key(self, index: int) -> Hashable:
        parameter = ROWS[index].parameter
        if parameter is None:
            return ()
        value = self._value(parameter, self.recipe)
        unit = unit_of(parameter, value, self.recipe)
        return value, unit, differs(self.recipe, self.base, parameter)

    def line(self, index: int, width: int) -> Content:
        row = ROWS[index]
        if row.parameter is None:
            return Content.styled(row.heading.upper(), "$accent")
        value = self._value(row.parameter, self.recipe)
        name = row.parameter.name.ljust(NAME_CELLS)
        if differs(self.recipe, self.base, row.parameter):
            label = Content.assemble(("* ", "bold $accent"), name)
        else:
            label = Content.assemble("  ", (name, MUTED))
        cells = width - label.cell_length - 1
        unit = unit_of(row.parameter, value, self.recipe)
        if is_unused(row.parameter, self.recipe) and len(value) + 1 + len(unit) > cells:
            unit = "unused"
        shown = fitted_value(value, unit, cells)
        return Content.assemble(label, " ", shown)

    def _value(self, parameter: Parameter, recipe: Recipe) -> str:
        if parameter is EPOCHS:
            return epochs_text(recipe, self.steps_per_epoch)
        return value_text(parameter, recipes.get(recipe, parameter.key))

    def go_to_next(self, text: str) -> tuple[int, int]:
        """Select the next parameter with this text in its key, or else in its help.

        Returns which of how many it is, from 1; (0, 0) if none has it.
        """
        found = rows_with(text)
        if not found:
            return 0, 0
        self.cursor = next((row for row in found if row > self.cursor), found[0])
        return found.index(self.cursor) + 1, len(found)

    def action_step(self, direction: Literal[-1, 1]) -> None:
        self.post_message(self.Stepped(self.parameter, direction))


class ValueInput(Remappable, OrderedInput, keys="form"):
    """The line in which a value is typed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Accept", tooltip="Accept the value"),
    ]


class RecipeForm(Remappable, Container, keys="form"):
    """The rows, and the input that opens in place of a value."""

    DEFAULT_CSS = """
    RecipeForm RecipeRows {
        height: 100%;
    }
    RecipeForm Input {
        position: absolute;
        display: none;
        height: 1;
        border: none;
        padding: 0;
        background: $panel;
        color: $foreground;
    }
    RecipeForm Input.-invalid, RecipeForm Input.-invalid:focus {
        border: none;
        color: $error;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave_value", "Cancel", tooltip="Keep the value as it was", id="cancel"),
    ]

    class Edited(Message):
        """A valid value was typed."""

        def __init__(self, parameter: Parameter, text: str) -> None:
            super().__init__()
            self.parameter = parameter
            self.text = text

    class Typing(Message):
        """A value is being typed; `problem` says why it isn't valid yet, or is empty."""

        def __init__(self, problem: str) -> None:
            super().__init__()
            self.problem = problem

    _edited: Parameter = EPOCHS
    """The parameter whose value is being typed."""

    def compose(self) -> ComposeResult:
        yield RecipeRows(id="rows")
        value = ValueInput(compact=True, select_on_focus=True)
        value.cursor_blink = False
        yield value

    def on_mount(self) -> None:
        self.watch(self.rows, "scroll_y", self._place, init=False)

    def on_resize(self) -> None:
        self.call_after_refresh(self._place)

    @property
    def rows(self) -> RecipeRows:
        return self.query_one(RecipeRows)

    @property
    def _input(self) -> Input:
        return self.query_one(Input)

    @on(RecipeRows.Chosen)
    def _open(self, message: RecipeRows.Chosen) -> None:
        message.stop()
        rows, value = self.rows, self._input
        parameter = ROWS[message.index].parameter or EPOCHS
        if parameter.kind in ("bool", "choice"):
            rows.post_message(RecipeRows.Stepped(parameter, 1))
            return
        self._edited = parameter
        rows.cursor = message.index
        self._place()
        value.value = "" if (text := rows._value(parameter, rows.recipe)) == figures.NONE else text
        value.display = True
        value.focus()

    def _place(self) -> None:
        """Put the input over the cursor's row, wherever that is shown now."""
        rows, value = self.rows, self._input
        width = rows.scrollable_content_region.width
        is_narrow = self._edited.kind in LONG_KINDS and width - _VALUE_AT < LONG_CELLS
        start = _MARKS if is_narrow else _VALUE_AT
        value.styles.offset = (start, rows.cursor - rows.scroll_offset.y)
        value.styles.width = max(8, width - start)

    @on(Input.Changed)
    def _check(self, message: Input.Changed) -> None:
        message.stop()
        problem = problem_of(self._edited, message.value)
        message.input.set_class(bool(problem), "-invalid")
        if message.input.display:
            self.post_message(self.Typing(problem))

    @on(Input.Submitted)
    def _submit(self, message: Input.Submitted) -> None:
        message.stop()
        if problem := problem_of(self._edited, message.value):
            self.post_message(self.Typing(problem))
            return
        self.post_message(self.Edited(self._edited, message.value))
        self.action_leave_value()

    @on(Input.Blurred)
    def _blurred(self) -> None:
        self._close()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return action != "leave_value" or self._input.display

    def action_leave_value(self) -> None:
        self.rows.focus()
        self._close()

    def _close(self) -> None:
        if self._input.display:
            self._input.display = False
            self.post_message(self.Typing(""))


def problem_of(parameter: Parameter, text: str) -> str:
    """Why the text isn't a valid value; empty if it is."""
    try:
        recipes.check(parameter, text)
    except RecipeError as error:
        return str(error)
    return ""


def differs(recipe: Recipe, base: Recipe, parameter: Parameter) -> bool:
    """Whether the recipe's value isn't the base's."""
    key = parameter.key
    return parameter is not EPOCHS and recipes.get(recipe, key) != recipes.get(base, key)


def epochs_text(recipe: Recipe, steps_per_epoch: int | None) -> str:
    """Epochs of the recipe's steps; a dash if they aren't known."""
    return (
        figures.epochs(recipes.epochs_for_iters(recipe.iters, steps_per_epoch)).replace(",", "")
        if steps_per_epoch
        else figures.NONE
    )


def is_unused(parameter: Parameter, recipe: Recipe) -> bool:
    """Whether the recipe's loss doesn't read the parameter."""
    losses = parameter.declared.losses
    return bool(losses) and recipe.loss not in losses


def unit_of(parameter: Parameter, value: str, recipe: Recipe) -> str:
    """The text after a value: its unit, or what the value means."""
    if is_unused(parameter, recipe):
        return f"not with {recipe.loss}"
    if meaning := parameter.declared.meanings.get(value):
        return meaning
    unit = parameter.declared.unit
    if parameter.key == "batch_size":
        unit = recipes.unit_of_batch(recipe)
    return unit.removesuffix("s") if value == "1" else unit


def fitted_value(value: str, unit: str, cells: int) -> Content:
    """The value in `cells`: a long one keeps its end, and the unit is dropped first."""
    if len(value) > cells:
        return Content("…" + value[len(value) - cells + 1 :] if cells > 1 else "")
    if unit and value != figures.NONE and len(value) + 1 + len(unit) <= cells:
        return Content.assemble(value, " ", (unit, FAINT))
    return Content(value)
