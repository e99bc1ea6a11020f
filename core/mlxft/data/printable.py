"""Foreign text made safe to show: nothing in it reaches the terminal as a command."""

from __future__ import annotations

from typing import Final

_NAMED: Final = (
    range(0x80, 0xA0),  # C1 controls
    (0x00AD, 0x061C, 0x180E, 0x200B, 0x200E, 0x200F),  # soft hyphen, marks, zero width
    range(0x2028, 0x202F),  # line and paragraph separators, bidi embeddings and overrides
    range(0x2060, 0x2070),  # invisible operators, bidi isolates, deprecated controls
    (0xFEFF,),
    range(0xFFF9, 0xFFFC),  # interlinear annotation
    range(0xD800, 0xE000),  # lone surrogates, which no terminal's encoding can take
    range(0xE0000, 0xE0080),  # tags
)
"""Code points that have no symbol of their own; zero-width joiners stay, emoji need them."""

_VISIBLE: Final[dict[int, str]] = {
    **{code: chr(0x2400 + code) for code in range(0x20)},
    0x7F: "␡",
    **{code: f"‹U+{code:04X}›" for group in _NAMED for code in group},
    ord("\t"): "    ",
    ord("\n"): "\n",
}
_ONE_LINE: Final[dict[int, str]] = {**_VISIBLE, ord("\n"): "↵", ord("\t"): " "}


def printable(text: str) -> str:
    """The text with control, bidi and invisible characters as symbols; tabs become spaces.

    Newlines stay; a carriage return before one is dropped.
    """
    return text.replace("\r\n", "\n").translate(_VISIBLE)


def printable_line(text: str) -> str:
    """The text as `printable` shows it, on one line."""
    return text.replace("\r\n", "\n").translate(_ONE_LINE)
