"""The base of dialogs with an answer: it is always what they show."""

from __future__ import annotations

from typing import ClassVar, Final, TypeVar

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen

from mlxft_tui.widgets.line_list import LineList
from mlxft_tui.widgets.remappable import Remappable, key_hints

Answer = TypeVar("Answer")

FIELD_BINDINGS: Final[list[BindingType]] = [
    Binding("enter", "accept", "Apply", priority=True),
    Binding("down", "app.focus_next", "Next", show=False, tooltip="Next field", id="next"),
    Binding(
        "up", "app.focus_previous", "Previous", show=False, tooltip="Previous field", id="previous"
    ),
]
"""The keys of a dialog with fields to write into."""


class Sheet(Remappable, ModalScreen[Answer | None]):
    """A dialog that returns what it shows in the moment a key accepts it; None if cancelled.

    Keys act on the sheet's own state at once. A message would be handled after the next key when
    several arrive together, and the answer would be that of an earlier state.
    """

    CLICK_ACCEPTS: ClassVar[bool] = False
    """Whether a click on the line with the cursor accepts it, as in a list to choose from."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "question_mark",
            "app.help",
            "Help",
            key_display="?",
            show=False,
            tooltip="All keys of this screen",
            id="app.help",
        ),
    ]

    is_open = True
    """Whether no key has closed it yet."""

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._show_keys)

    def _show_keys(self, _: object) -> None:
        """Write the keys into the frame, as they are now."""
        for frame in self.query(Vertical):
            if frame.border_title:
                frame.border_subtitle = key_hints(self)

    def shown(self) -> Answer | None:
        """The answer as shown now; None if it can't be accepted, and the sheet says why."""
        raise NotImplementedError

    def action_accept(self) -> None:
        """Close with what is shown."""
        answer = self.shown() if self.is_open else None
        if answer is not None:
            self.close_with(answer)

    def action_cancel(self) -> None:
        """Close without an answer."""
        self.close_with(None)

    def close_with(self, answer: Answer | None) -> None:
        """Close; the keys after the one that has closed it change nothing."""
        if self.is_open:
            self.is_open = False
            self.dismiss(answer)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return self.is_open and super().check_action(action, parameters)

    @on(LineList.Chosen)
    def _line_chosen(self, message: LineList.Chosen) -> None:
        message.stop()
        if self.CLICK_ACCEPTS:
            self.action_accept()
