"""Sequences by which a terminal notifies its user, for those who want one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from mlxft.text.printable import printable_line

if TYPE_CHECKING:
    from mlxft.watching.notifications import TerminalSignal

LONGEST: Final = 200
"""Characters of a text; terminals cut longer ones, and some drop the sequence."""

_BELL: Final = "\a"
_TMUX: Final = re.compile(r"tmux\b")


def signal_sequence(
    how: TerminalSignal, title: str, message: str, environment: Mapping[str, str]
) -> str:
    """The sequence of one notification; empty where none is wanted.

    OSC 9 is iTerm2's, also understood by kitty, WezTerm, Ghostty and Windows Terminal; OSC 777 is
    urxvt's. tmux keeps both to itself unless they are wrapped, and its ``allow-passthrough`` is on.
    The texts can't hold an escape, nor end the sequence.
    """
    title, message = _text(title), _text(message)
    match how:
        case "bell":
            return _BELL
        case "osc9":
            # A number and a semicolon at its start would be a command to Windows Terminal.
            return _passed(f"\x1b]9;mlxft-tui: {title}. {message}{_BELL}", environment)
        case "osc777":
            # The title ends at a semicolon.
            title = title.replace(";", ",")
            return _passed(f"\x1b]777;notify;{title};{message}{_BELL}", environment)
        case _:
            return ""


def _text(text: str) -> str:
    shown = printable_line(text)
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 1]}…"


def _passed(sequence: str, environment: Mapping[str, str]) -> str:
    """The sequence, wrapped where tmux stands between the app and the terminal."""
    if not environment.get("TMUX") and not _TMUX.match(environment.get("TERM", "")):
        return sequence
    escaped = sequence.replace("\x1b", "\x1b\x1b")
    return f"\x1bPtmux;{escaped}\x1b\\"
