"""The keys of the whole application; each screen and widget declares its own beside its actions."""

from __future__ import annotations

from typing import Final, NamedTuple

from textual.binding import Binding


class ScreenKey(NamedTuple):
    """A place's number key and its name in the bar of places."""

    key: str
    mode: str
    title: str
    purpose: str


SCREENS: Final = (
    ScreenKey("1", "data", "Data", "Look at the records"),
    ScreenKey("2", "recipe", "Recipe", "Choose model and parameters, see what they cost"),
    ScreenKey("3", "train", "Train", "Watch the run and steer it"),
    ScreenKey("4", "chat", "Chat", "Talk to the base model and to the adapter"),
    ScreenKey("5", "runs", "Runs", "Past and present runs"),
)

APP_BINDINGS: Final[list[Binding]] = [
    *(
        Binding(
            f"{place.key},f{place.key}",
            f"go('{place.mode}')",
            place.title,
            show=False,
            tooltip=place.purpose,
            id=f"go.{place.mode}",
        )
        for place in SCREENS
    ),
    Binding("question_mark", "help", "Help", key_display="?", tooltip="Keys of this screen"),
    Binding("q", "detach", "Quit", tooltip="Leave; a run goes on", id="quit"),
    Binding(
        "ctrl+z",
        "suspend_process",
        "Suspend",
        show=False,
        tooltip="Back to the shell; fg returns",
        id="suspend",
    ),
    Binding("ctrl+l", "redraw", "Redraw", show=False, tooltip="Send the whole screen again"),
    Binding(
        "ctrl+q", "detach", "Quit", show=False, tooltip="Leave; a run goes on", id="quit_anywhere"
    ),
]

KEPT_AT_THE_RIGHT: Final = ("help", "detach")
"""Actions whose keys stay in view when the line of keys is too long."""
