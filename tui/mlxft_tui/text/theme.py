"""The colour themes, and the style of run states: symbol and word, never colour alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from textual.theme import Theme

if TYPE_CHECKING:
    from mlxft.runs.view import State
    from mlxft_tui.text.cells import Role

MUTED: Final = "$foreground 60%"
FAINT: Final = "$foreground 38%"
"""Content styles of secondary text."""


ROLE_STYLES: Final[dict[Role, str]] = {
    "plain": "$foreground",
    "strong": "bold $foreground",
    "muted": "$foreground 60%",
    "faint": "$foreground 25%",
    "raw": "$primary 45%",
    "smooth": "bold $primary",
    "other": "$secondary",
    "first": "$secondary",
    "second": "$warning 60%",
    "third": "$success 60%",
    "run_1": "$primary",
    "run_2": "$accent",
    "run_3": "$success",
    "run_4": "$error",
    "run_5": "$warning",
    "run_6": "$foreground 70%",
    "validation": "bold $accent",
    "best": "bold $success",
    "cursor": "$foreground 60%",
    "bar": "$primary",
    "good": "$success",
    "warning": "$warning",
    "bad": "bold $error",
}
"""Content styles of the cells of curves and figures."""


class StateLook(NamedTuple):
    """A run state's symbol, label and style."""

    symbol: str
    word: str
    style: str


STATE_LOOKS: Final[dict[State, StateLook]] = {
    "starting": StateLook("◌", "STARTING", "$accent"),
    "running": StateLook("●", "RUNNING", "$success"),
    "paused": StateLook("‖", "PAUSED", "$warning"),
    "finished": StateLook("✓", "FINISHED", "$primary"),
    "stopped": StateLook("■", "STOPPED", "$secondary"),
    "failed": StateLook("✗", "FAILED", "$error"),
    "lost": StateLook("?", "LOST", "$error"),
}

DARK: Final = Theme(
    name="mlxft-dark",
    primary="#7aa7c7",
    secondary="#8e9aa8",
    accent="#c9a26d",
    foreground="#cfd5dc",
    background="#11151a",
    surface="#171c22",
    panel="#1f262e",
    success="#86b58b",
    warning="#d8b26a",
    error="#d57f78",
    dark=True,
    variables={
        "block-cursor-background": "#2c3a48",
        "block-cursor-foreground": "#eef2f6",
        "block-cursor-text-style": "bold",
        "block-cursor-blurred-background": "#20282f",
        "block-cursor-blurred-foreground": "#cfd5dc",
        "border": "#7aa7c7",
        "border-blurred": "#323c47",
        "input-selection-background": "#7aa7c7 35%",
        "scrollbar": "#323c47",
        "scrollbar-hover": "#45525f",
        "scrollbar-active": "#7aa7c7",
        "scrollbar-background": "#171c22",
        "scrollbar-background-hover": "#171c22",
        "scrollbar-background-active": "#171c22",
        "scrollbar-corner-color": "#171c22",
    },
)

LIGHT: Final = Theme(
    name="mlxft-light",
    primary="#2f6690",
    secondary="#5c6770",
    accent="#8a5a1e",
    foreground="#22282e",
    background="#f5f6f4",
    surface="#ecedea",
    panel="#e0e3e0",
    success="#2f6f3e",
    warning="#8a6100",
    error="#a83232",
    dark=False,
    variables={
        "block-cursor-background": "#cddbe6",
        "block-cursor-foreground": "#14181c",
        "block-cursor-text-style": "bold",
        "block-cursor-blurred-background": "#dde2e4",
        "block-cursor-blurred-foreground": "#22282e",
        "border": "#2f6690",
        "border-blurred": "#c3c9cc",
    },
)
