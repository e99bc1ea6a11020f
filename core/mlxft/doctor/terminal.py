"""The terminal, from its environment and what it answered: pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from mlxft.doctor.finding import Finding, unknown

SMALLEST: Final = (40, 12)
"""Columns and rows that the app needs to start; its screens are made for 80×24."""


@dataclass(frozen=True)
class Terminal:
    """What is known of a terminal; `synchronized` is None if it wasn't asked or didn't answer."""

    environment: Mapping[str, str] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    encoding: str = "utf-8"
    synchronized: bool | None = None
    mosh: bool = False


def terminal_findings(terminal: Terminal) -> list[Finding]:
    """Connection, size, colors, Unicode, painting and clipboard."""
    connection = Finding("connection", "ok", ", ".join(_layers(terminal)) or "local")
    if terminal.size is None:
        return [connection, Finding("terminal", "note", "none; the app needs one")]
    return [
        connection,
        _size(*terminal.size),
        _colors(terminal.environment),
        _unicode(terminal.encoding),
        _painting(terminal.synchronized),
        _clipboard(terminal),
    ]


def _layers(terminal: Terminal) -> list[str]:
    """What is between the user and this process."""
    environment = terminal.environment
    remote = environment.get("SSH_CONNECTION") or environment.get("SSH_TTY")
    known = (
        ("mosh", terminal.mosh),
        ("SSH", remote and not terminal.mosh),
        ("tmux", environment.get("TMUX")),
        ("screen", environment.get("STY")),
        ("Zellij", environment.get("ZELLIJ")),
    )
    return [name for name, there in known if there]


def _size(columns: int, rows: int) -> Finding:
    seen = f"{columns}×{rows}"
    if (columns, rows) == (0, 0):
        return unknown("size")
    if columns < SMALLEST[0] or rows < SMALLEST[1]:
        return Finding("size", "warning", seen, "The app starts at 40×12 and is made for 80×24.")
    if columns < 80 or rows < 24:
        return Finding("size", "warning", seen, "Make it 80×24 or larger.")
    return Finding("size", "ok", seen)


def _colors(environment: Mapping[str, str]) -> Finding:
    name = environment.get("TERM", "")
    if environment.get("NO_COLOR"):
        return Finding("colors", "note", "none, as NO_COLOR says")
    if environment.get("COLORTERM", "").lower() in ("truecolor", "24bit"):
        return Finding("colors", "ok", "24-bit")
    if name in ("", "dumb"):
        return Finding(
            "colors", "warning", f"TERM is {name or 'empty'}", "Use another terminal, or set TERM."
        )
    if "direct" in name:
        return Finding("colors", "ok", "24-bit")
    remedy = "If the terminal has 24-bit colors, set COLORTERM=truecolor (SSH doesn't send it)."
    return Finding("colors", "note", "256" if "256" in name else "16 at least", remedy)


def _unicode(encoding: str) -> Finding:
    if encoding.lower().replace("-", "").replace("_", "") == "utf8":
        return Finding("Unicode", "ok", "UTF-8")
    return Finding(
        "Unicode",
        "warning",
        f"{encoding}, so lines and symbols are replaced",
        "Use a UTF-8 locale, for example export LC_ALL=en_US.UTF-8",
    )


def _painting(synchronized: bool | None) -> Finding:
    subject = "synchronized output"
    if synchronized is None:
        return unknown(subject)
    if synchronized:
        return Finding(subject, "ok", "yes")
    return Finding(subject, "note", "no; a large change may be seen half painted")


def _clipboard(terminal: Terminal) -> Finding:
    environment = terminal.environment
    if environment.get("TERM_PROGRAM") == "Apple_Terminal":
        return Finding(
            "clipboard",
            "note",
            "Apple's Terminal doesn't take copied text (OSC 52)",
            "Select with the mouse and option held, or use another terminal.",
        )
    if environment.get("TMUX"):
        return Finding("clipboard", "note", "tmux passes it on if set-clipboard is on", _TMUX)
    if terminal.mosh:
        return Finding("clipboard", "note", "mosh passes it on from version 1.4 on both sides")
    return Finding("clipboard", "ok", "OSC 52, if the terminal allows it")


_TMUX: Final = "In ~/.tmux.conf: set -g set-clipboard on"
