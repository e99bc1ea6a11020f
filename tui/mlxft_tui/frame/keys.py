"""Application-wide keys; screens and widgets declare their own."""

from __future__ import annotations

from typing import Final, NamedTuple

from textual.binding import Binding


class ScreenKey(NamedTuple):
    """A screen's number key, mode, title and purpose."""

    key: str
    mode: str
    title: str
    purpose: str


SCREENS: Final = (
    ScreenKey("1", "data", "Data", "Browse records and problems"),
    ScreenKey("2", "recipe", "Recipe", "Set model and parameters, see memory and time"),
    ScreenKey("3", "train", "Train", "Watch and control the run"),
    ScreenKey("4", "chat", "Chat", "Chat with the base model and adapters"),
    ScreenKey("5", "runs", "Runs", "Current and past runs"),
)

APP_BINDINGS: Final[list[Binding]] = [
    *(
        Binding(
            f"{screen.key},f{screen.key}",
            f"go('{screen.mode}')",
            screen.title,
            show=False,
            tooltip=screen.purpose,
            id=f"go.{screen.mode}",
        )
        for screen in SCREENS
    ),
    Binding("question_mark", "help", "Help", key_display="?", tooltip="All keys of this screen"),
    Binding(
        "exclamation_mark",
        "doctor",
        "Doctor",
        show=False,
        key_display="!",
        tooltip="What this machine means for a run; its self-test",
        id="doctor",
    ),
    Binding("q", "detach", "Quit", tooltip="Quit; runs keep running", id="quit"),
    Binding(
        "ctrl+z",
        "suspend_process",
        "Suspend",
        show=False,
        tooltip="Back to the shell; fg resumes",
        id="suspend",
    ),
    Binding("ctrl+l", "redraw", "Redraw", show=False, tooltip="Repaint the whole screen"),
    Binding(
        "ctrl+q",
        "detach",
        "Quit",
        show=False,
        priority=True,
        tooltip="Quit; runs keep running",
        id="quit_anywhere",
    ),
]

PINNED_RIGHT: Final = ("help", "detach")
"""Actions whose keys stay visible when the key bar is too narrow for all."""
