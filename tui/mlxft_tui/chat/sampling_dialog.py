"""A dialog for the sampling settings and the system prompt."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Input, Static

from mlxft.conversation.messages import Sampling
from mlxft.conversation.sampling import SETTINGS, Setting, with_setting
from mlxft.errors import ModelError
from mlxft.text.printable import printable_line
from mlxft_tui.frame.sheet import FIELD_BINDINGS, Sheet
from mlxft_tui.text.theme import MUTED
from mlxft_tui.widgets.ordered_input import OrderedInput

SYSTEM = "system"

TEXTS = (SYSTEM, "stop")
"""Settings whose input takes the whole line, with the help as placeholder."""


class SamplingDialog(Sheet[tuple[Sampling, str]], keys="sampling"):
    """Returns the sampling and the system prompt; None if cancelled."""

    CSS_PATH = "sampling_dialog.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        *FIELD_BINDINGS,
        Binding(
            "ctrl+r",
            "recommend",
            "Recommended",
            tooltip="The values in the model's own settings",
            id="reset",
        ),
        Binding("escape", "cancel", "Cancel"),
    ]

    def __init__(self, sampling: Sampling, system: str, recommended: Sampling) -> None:
        super().__init__()
        self._sampling = sampling
        self._system = system
        self._recommended = recommended

    def compose(self) -> ComposeResult:
        with Vertical(id="sampling") as dialog:
            dialog.border_title = "sampling"
            yield from self._row(SYSTEM, self._system, "sent before the conversation")
            for each in SETTINGS:
                text = each.write(getattr(self._sampling, each.name))
                yield from self._row(each.name, text, each.help)
            yield Static(id="problem")

    def _row(self, name: str, text: str, help_text: str) -> ComposeResult:
        with Horizontal():
            yield Static(name.replace("_", " "), classes="name")
            if name in TEXTS:
                line = OrderedInput(text, help_text, id=name, compact=True, classes="text")
            else:
                line = OrderedInput(text, id=name, compact=True)
            line.cursor_blink = False
            yield line
            if name not in TEXTS:
                yield Static(Content.styled(help_text, MUTED), classes="help")

    def action_recommend(self) -> None:
        """Fill in the values the model recommends."""
        for each in SETTINGS:
            self._line(each.name).value = each.write(getattr(self._recommended, each.name))

    @on(Input.Changed)
    def _check(self) -> None:
        self._read()

    @on(Input.Submitted)
    def _submitted(self) -> None:
        self.action_accept()

    def shown(self) -> tuple[Sampling, str] | None:
        read = self._read()
        return None if read is None else (read, self._line(SYSTEM).value.strip())

    def _read(self) -> Sampling | None:
        """The sampling as entered; None if a value is invalid, after showing why."""
        sampling, problem = Sampling(), ""
        for each in SETTINGS:
            sampling, wrong = self._with(sampling, each)
            problem = problem or wrong
        self.query_one("#problem", Static).update(Content(printable_line(problem)))
        return None if problem else sampling

    def _with(self, sampling: Sampling, setting: Setting) -> tuple[Sampling, str]:
        line = self._line(setting.name)
        try:
            found, wrong = with_setting(sampling, setting, line.value), ""
        except ModelError as error:
            found, wrong = sampling, str(error)
        line.set_class(bool(wrong), "wrong")
        return found, wrong

    def _line(self, name: str) -> Input:
        return self.query_one(f"#{name}", Input)
