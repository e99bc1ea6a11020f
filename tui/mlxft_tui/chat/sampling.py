"""How the next token is drawn, and what the model is told beforehand: a sheet beside the chat."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from mlxft.conversation.messages import Sampling
from mlxft.conversation.sampling import SETTINGS, Setting, with_setting
from mlxft.errors import ModelError
from mlxft.text.printable import printable_line
from mlxft_tui.text.theme import MUTED
from mlxft_tui.widgets.remappable import Remappable

SYSTEM = "system"

TEXTS = (SYSTEM, "stop")
"""What takes the whole line, with its help in it while it is empty."""


class SamplingDialog(Remappable, ModalScreen[tuple[Sampling, str] | None], keys="sampling"):
    """Answers with the sampling and the system prompt; None leaves them as they were."""

    CSS_PATH = "sampling.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "As before", id="cancel"),
        Binding("down", "app.focus_next", "Next", show=False, id="next"),
        Binding("up", "app.focus_previous", "Previous", show=False, id="previous"),
        Binding(
            "ctrl+r", "advised", "As advised", tooltip="What the model's makers advise", id="reset"
        ),
    ]

    def __init__(self, sampling: Sampling, system: str, advised: Sampling) -> None:
        super().__init__()
        self._sampling = sampling
        self._system = system
        self._advised = advised

    def compose(self) -> ComposeResult:
        with Vertical(id="sampling") as sheet:
            sheet.border_title = "sampling"
            sheet.border_subtitle = "↑↓ setting  enter keeps  ctrl+r as advised  esc as before"
            yield from self._row(SYSTEM, self._system, "told before the conversation")
            for each in SETTINGS:
                text = each.write(getattr(self._sampling, each.name))
                yield from self._row(each.name, text, each.help)
            yield Static(id="problem")

    def _row(self, name: str, text: str, help_text: str) -> ComposeResult:
        with Horizontal():
            yield Static(name.replace("_", " "), classes="name")
            if name in TEXTS:
                line = Input(text, help_text, id=name, compact=True, classes="text")
            else:
                line = Input(text, id=name, compact=True)
            line.cursor_blink = False
            yield line
            if name not in TEXTS:
                yield Static(Content.styled(help_text, MUTED), classes="help")

    def action_advised(self) -> None:
        """Write what the model's makers advise into the sheet."""
        for each in SETTINGS:
            self._line(each.name).value = each.write(getattr(self._advised, each.name))

    @on(Input.Changed)
    def _check(self) -> None:
        self._read()

    @on(Input.Submitted)
    def _keep(self) -> None:
        read = self._read()
        if read is not None:
            self.dismiss((read, self._line(SYSTEM).value.strip()))

    def action_leave(self) -> None:
        """Close without a change."""
        self.dismiss(None)

    def _read(self) -> Sampling | None:
        """The sampling as written; None where a value can't be, which is said."""
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
