"""Make untrusted text safe to show: nothing in it reaches the terminal as a command."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import SequenceMatcher
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
"""Invisible code points without a symbol; zero-width joiners are kept for emoji."""

_VISIBLE: Final[dict[int, str]] = {
    **{code: chr(0x2400 + code) for code in range(0x20)},
    0x7F: "␡",
    **{code: f"‹U+{code:04X}›" for group in _NAMED for code in group},
    ord("\t"): "    ",
    ord("\n"): "\n",
}
_ONE_LINE: Final[dict[int, str]] = {**_VISIBLE, ord("\n"): "↵", ord("\t"): " "}


def printable(text: str) -> str:
    """The text with control, bidi and invisible characters as symbols and tabs as spaces.

    Newlines are kept; a carriage return before one is dropped.
    """
    return text.replace("\r\n", "\n").translate(_VISIBLE)


def printable_line(text: str) -> str:
    """The text as `printable` shows it, on one line."""
    return text.replace("\r\n", "\n").translate(_ONE_LINE)


def meant(original: str, written: str) -> str:
    """The text an edit means: `edited` is the edited `printable` form of the original.

    Unedited parts stand for the original's own characters, which can't be typed.
    """
    shown = printable(original)
    if written == shown or not written:
        return original if written else ""
    if shown == original:
        return written
    starts: dict[int, tuple[int, str]] = {}
    at = 0
    for each in re.findall(r"\r\n|.", original, re.DOTALL):
        after = at + len(printable(each))
        starts[at] = after, each
        at = after
    found: list[str] = []
    end = 0
    for old, new, size in _kept(shown, written):
        found.append(written[end:new])
        end, at = new + size, old
        while at < old + size:
            after, own = starts.get(at, (at + 1, shown[at]))
            whole = after <= old + size
            found.append(own if whole else shown[at])
            at = after if whole else at + 1
    return "".join([*found, written[end:]])


MOST_COMPARED: Final = 1000
"""Above this many characters only rare ones are compared, since all would take seconds."""


def _kept(before: str, after: str) -> Iterator[tuple[int, int, int]]:
    """Stretches that both texts share, as (position before, position after, length)."""
    first = _in_common(before, after)
    old, new = before[first:], after[first:]
    last = _in_common(old[::-1], new[::-1])
    yield 0, 0, first
    was = old[: len(old) - last].splitlines(keepends=True)
    became = new[: len(new) - last].splitlines(keepends=True)
    for kind, a, b, c, d in SequenceMatcher(None, was, became, autojunk=False).get_opcodes():
        x, y = first + len("".join(was[:a])), first + len("".join(became[:c]))
        left, right = "".join(was[a:b]), "".join(became[c:d])
        if kind == "equal":
            yield x, y, len(left)
        elif kind == "replace":
            many = max(len(left), len(right)) > MOST_COMPARED
            for part in SequenceMatcher(None, left, right, autojunk=many).get_matching_blocks():
                yield x + part.a, y + part.b, part.size
    yield len(before) - last, len(after) - last, last


def _in_common(left: str, right: str) -> int:
    """The length of the common prefix of two texts."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(left), len(right)))
