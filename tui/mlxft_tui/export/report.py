"""The dialog of an export that is running or has ended: progress, then what was measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content

from mlxft.export.model_card import loadable, loading_lines
from mlxft.export.types import Choice, Exported
from mlxft.text import figures
from mlxft.text.printable import printable, printable_line
from mlxft_tui.frame.sheet import Sheet
from mlxft_tui.text.theme import MUTED
from mlxft_tui.widgets.notices import inform
from mlxft_tui.widgets.text_pane import TextPane

STAGES: Final = {
    "measuring": "comparing: ",
    "saving": "writing: ",
    "loading": "loading: ",
}
"""The stages of an export by their names in the protocol."""


@dataclass(frozen=True, kw_only=True)
class ExportState:
    """An export of a run, so far."""

    name: str
    """The run's name."""
    model: str
    choice: Choice
    progress: str = "starting"
    cancelling: bool = False
    problem: str = ""
    """Why it has failed."""
    exported: Exported | None = None

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.exported is None and not self.problem


class ExportReport(Sheet[Literal["cancel"]], keys="export"):
    """Shows an export; closing it leaves the export running."""

    CSS_PATH = "report.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "stop", "Cancel the export", id="stop"),
        Binding("y", "copy", "Copy the lines", tooltip="Copy the lines that load it"),
        Binding("escape,q", "cancel", "Close", tooltip="Close; the export continues", id="close"),
    ]

    def __init__(self, state: ExportState, stop: Callable[[], None]) -> None:
        super().__init__()
        self._state = state
        self._stop = stop
        self._text = TextPane("exported")

    def compose(self) -> ComposeResult:
        with Vertical(id="report") as dialog:
            dialog.border_title = printable_line(f"export {self._state.name}")
            yield self._text

    def on_mount(self) -> None:
        self.show(self._state)
        self._text.focus()

    def show(self, state: ExportState) -> None:
        """Show how far it is, or what was measured."""
        self._state = state
        self._text.show(describe(state))
        self.set_class(not state.running, "-ended")
        self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "stop":
            return self._state.running and not self._state.cancelling
        if action == "copy":
            return self._state.exported is not None
        return super().check_action(action, parameters)

    def action_stop(self) -> None:
        """Cancel the export; nothing is left of it."""
        self._stop()

    def action_copy(self) -> None:
        """Copy the lines that load it."""
        if (exported := self._state.exported) is not None:
            self.app.copy_to_clipboard(
                "\n".join(loading_lines(exported, loadable(self._state.model)))
            )
            inform(self, "Copied; run them in the export's folder.")


def describe(state: ExportState) -> Content:
    """Progress, why it has failed, or what was written and measured."""
    place = printable_line(figures.short_path(state.choice.out))
    if state.problem:
        return Content.styled(printable(state.problem), "$error")
    if state.exported is None:
        doing = "cancelling…" if state.cancelling else state.progress
        hint = "It continues while this is closed and other screens are used."
        return Content("\n").join(
            [Content(doing), Content.styled(f"to {place}/", MUTED), Content.styled(hint, MUTED)]
        )
    exported = state.exported
    size = figures.size(sum(size for _, size in exported.files))
    written = f"{len(exported.files)} files, {size} in {place}/"
    parts = [Content(written), *(Content(each) for each in exported.proof.lines)]
    if exported.note:
        parts.append(Content.styled(exported.note, MUTED))
    if exported.warning:
        parts.append(Content.styled(exported.warning, "$warning"))
    parts.append(Content.styled("to load it, in that folder", MUTED))
    lines = loading_lines(exported, loadable(state.model))
    parts += [Content.styled(f"  {printable_line(each)}", "$accent") for each in lines]
    parts.append(Content.styled("to publish it: mlxft-tui upload . --repo OWNER/NAME", MUTED))
    return Content("\n").join(parts)
