"""The dialog that makes a sweep: parameters with their values, method, budget, and the cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Final, Literal

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Static

from mlxft.errors import RecipeError
from mlxft.recipe import PARAMETERS, Recipe
from mlxft.sweep.cost import Cost, Sources, cost, described, unfit_text
from mlxft.sweep.halving import halving_rule
from mlxft.sweep.plan import Sweep
from mlxft.sweep.search import missing_optuna, search_rule
from mlxft.text.printable import printable_line
from mlxft_tui.frame.choice import ChoiceDialog
from mlxft_tui.frame.sheet import Sheet
from mlxft_tui.sweep.form import LABELS, ReadForm, SweepForm, about, read_form
from mlxft_tui.text.theme import MUTED
from mlxft_tui.widgets.line_list import LineList
from mlxft_tui.widgets.notices import show_error
from mlxft_tui.widgets.ordered_input import OrderedInput
from mlxft_tui.widgets.remappable import Remappable, with_keys

NAME_CELLS: Final = 24
VALUE_AT: Final = 2 + NAME_CELLS + 1
"""Column of the values: after the cursor and the name."""

ONE_POINT: Final = "1 point: a plain run does the same."
NO_PARAMETER: Final = "{sweep.add} adds a parameter whose values are tried."


class SweepRows(LineList, keys="sweep"):
    """A line per field and parameter; its problem stands behind its value."""

    HELP = """A sweep trains runs that differ in some parameters. Type their values as 4, 8, 16 or
    as 1e-5 to 1e-3 log; a grid needs a number of values behind that. The cost below follows each
    key. {sweep.start} writes the sweep into the project and puts it on the queue; the app needn't
    stay open."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "step(-1)", "Less", show=False, tooltip="Previous method", id="less"),
        Binding("right,l", "step(1)", "More", show=False, tooltip="Next method", id="more"),
        Binding("enter", "choose", "Edit", tooltip="Type the value", id="edit"),
    ]

    def __init__(self, form: SweepForm, read: Callable[[SweepForm], ReadForm]) -> None:
        super().__init__()
        self._read = read
        self.form = form
        self.known = read(form)

    class Changed(Message):
        """The form has changed."""

    def on_mount(self) -> None:
        self.show(self.form)
        self.cursor = self.count - 1

    @property
    def row(self) -> str:
        """The row under the cursor."""
        return self.form.rows()[self.cursor]

    def show(self, form: SweepForm, row: str | None = None) -> None:
        """Show a form, with the cursor on a row of it."""
        self.form, self.known = form, self._read(form)
        rows = form.rows()
        self.count = len(rows)
        if row in rows:
            self.cursor = rows.index(row)
        self.refresh()
        self.post_message(self.Changed())

    def line(self, index: int, width: int) -> Content:
        row = self.form.rows()[index]
        name = LABELS.get(row, PARAMETERS[row].name if row in PARAMETERS else row)
        text = printable_line(self.form.text(row))
        value = Content.assemble("‹ ", (text, "bold $accent"), " ›") if row == "method" else text
        problem = self.known.problems.get(row, "")
        return Content.assemble(
            Content(name).truncate(NAME_CELLS, ellipsis=True, pad=True),
            " ",
            value or ("—", MUTED),
            (f"  {printable_line(problem)}", "$error"),
        ).truncate(width, ellipsis=True)

    def action_step(self, by: Literal[-1, 1]) -> None:
        """Choose the next or previous method."""
        if self.row == "method":
            self.show(self.form.stepped(by), "method")

    def action_choose(self) -> None:
        if self.row == "method":
            self.action_step(1)
        else:
            super().action_choose()


class TypedValue(Remappable, OrderedInput, keys="sweep"):
    """The line in which a value is typed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Accept", tooltip="Accept the value", id="accept_value"),
    ]


class SweepDialog(Sheet[Sweep], keys="sweep"):
    """Returns the sweep to start."""

    CSS_PATH = "dialog.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "accept", "Start", tooltip="Write the sweep and queue it", id="start"),
        Binding("a", "add", "Add", tooltip="Add a parameter to vary"),
        Binding("d", "remove", "Remove", tooltip="Leave the parameter under the cursor out"),
        Binding("escape", "leave", "Cancel", id="cancel"),
        Binding("q", "cancel", "Cancel", show=False, id="close"),
    ]

    def __init__(
        self, form: SweepForm, recipe: Recipe, sources: Sources, taken: Callable[[str], str]
    ) -> None:
        """`taken` says why the project can't have a name, or nothing."""
        super().__init__()
        self._recipe = recipe
        self._sources = sources
        self._before = form
        self._is_due = False
        self._rows = SweepRows(form, lambda form: read_form(form, recipe, taken))
        self._value = TypedValue(compact=True, select_on_focus=True)
        self._value.cursor_blink = False

    def compose(self) -> ComposeResult:
        with Vertical(id="sweep") as dialog:
            dialog.border_title = "sweep"
            with Container():
                yield self._rows
                yield self._value
            yield Static(id="sweep-costs")

    # Values

    @on(LineList.Chosen)
    def _line_chosen(self, message: LineList.Chosen) -> None:
        message.stop()
        self._before = self._rows.form
        y = message.index - self._rows.scroll_offset.y
        width = self._rows.scrollable_content_region.width
        self._value.styles.offset = (VALUE_AT, y)
        self._value.styles.width = max(8, width - VALUE_AT)
        self._value.value = self._rows.form.text(self._rows.row)
        self._value.display = True
        self._value.focus()

    @on(Input.Changed)
    def _typed(self, message: Input.Changed) -> None:
        message.stop()
        if self._value.display:
            rows = self._rows
            rows.show(rows.form.with_text(rows.row, message.value), rows.row)
            self._value.set_class(rows.row in rows.known.problems, "-invalid")

    @on(Input.Submitted)
    def _submitted(self, message: Input.Submitted) -> None:
        message.stop()
        self._close_value()

    def _close_value(self) -> None:
        self._value.display = False
        self._rows.focus()

    def action_leave(self) -> None:
        """Keep the value as it was, or close without a sweep."""
        if self._value.display:
            self._close_value()
            self._rows.show(self._before, self._rows.row)
        else:
            self.action_cancel()

    def action_add(self) -> None:
        """Choose one more parameter."""
        form = self._rows.form
        others = [each for each in PARAMETERS.values() if each.key not in form.axes]

        def add(index: int | None) -> None:
            if index is not None:
                key = others[index].key
                self._rows.show(self._rows.form.with_parameter(key, self._recipe), key)

        choices = [(each.key, each.declared.help) for each in others]
        self.app.push_screen(ChoiceDialog("vary", choices, filtered=True), add)

    def action_remove(self) -> None:
        """Leave the parameter under the cursor out."""
        self._rows.show(self._rows.form.without(self._rows.row))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "remove" and self.is_mounted and self._rows.count:
            return self.is_open and self._rows.row in self._rows.form.axes
        return super().check_action(action, parameters)

    def shown(self) -> Sweep | None:
        """The sweep; the cursor goes to the first row with a problem."""
        known, problem = self._rows.known, ""
        if known.sweep is None:
            rows = self._rows.form.rows()
            wrong = next((each for each in rows if each in known.problems), None)
            if wrong is not None:
                self._rows.cursor = rows.index(wrong)
            problem = next(iter(known.problems.values()))
        elif known.sweep.search is not None:
            problem = missing_optuna()
        if problem:
            show_error(self, problem)
        return None if problem else known.sweep

    # The cost

    @on(SweepRows.Changed)
    @on(LineList.Moved)
    def _write_soon(self) -> None:
        """Write the cost once the rows are painted; once for many keys."""
        self.refresh_bindings()
        if not self._is_due:
            self._is_due = True
            self.call_after_refresh(self._write)

    def _write(self) -> None:
        self._is_due = False
        if self.is_mounted and self._rows.count:
            parts = [*self._costs(), Content.styled(about(self._rows.row, self._rows.form), MUTED)]
            self.query_one("#sweep-costs", Static).update(Content("\n").join(parts))

    def _costs(self) -> list[Content]:
        """What the sweep costs, or what is wrong with it."""
        known = self._rows.known
        if known.sweep is None:
            problem = known.problems.get("") or next(iter(known.problems.values()))
            if not self._rows.form.axes:
                return [Content.styled(with_keys(self, NO_PARAMETER), "$warning")]
            return [Content.styled(printable_line(problem), "$error")]
        try:
            found = cost(known.sweep, self._recipe, self._sources)
        except RecipeError as error:
            return [Content.styled(printable_line(str(error)), "$error")]
        parts = [Content.styled(f"{described(found)}", "bold")]
        if found.runs == 1:
            parts.append(Content.styled(ONE_POINT, "$warning"))
        if known.sweep.search and (missing := missing_optuna()):
            parts.append(Content.styled(printable_line(missing), "$warning"))
        if unfit := unfit_text(found):
            parts.append(Content.styled(printable_line(unfit), "$warning"))
        if rule := _rules(known.sweep, found, self._recipe):
            parts.append(Content(rule))
        return parts


def _rules(sweep: Sweep, found: Cost, base: Recipe) -> str:
    """How points are drawn, and which of them continue."""
    drawn = search_rule(sweep.search) if sweep.search else ""
    halved = halving_rule(sweep.halving, found.runs or 0, base.iters) if sweep.halving else ""
    return " ".join(filter(None, (drawn, halved)))
