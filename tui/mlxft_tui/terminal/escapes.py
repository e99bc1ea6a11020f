"""Tell the escape key from the start of an escape sequence."""

from __future__ import annotations

import re
from collections.abc import Set
from typing import Final

from mlxft_tui.terminal.pastes import Input

ESCAPE: Final = "\x1b"

LONE: Final = re.compile(r"\x1b(?![\[O]|\Z)")
"""An escape that starts none of the sequences of keys."""

WORD_KEYS: Final = frozenset("bf\t\x7f")
"""What follows the escape where Option or Alt is held with an arrow, tab or backspace."""


class Escapes:
    """Splits typed text so that the escape key is a piece of its own.

    Terminals send Alt as an escape before the key, so Textual takes escape and the key pressed
    after it for one key with Alt, which does nothing or types a symbol.
    """

    def __init__(self, alt_keys: Set[str] = frozenset()) -> None:
        """With the characters that are bound together with Alt."""
        pairs = "".join(map(re.escape, sorted(WORD_KEYS | alt_keys)))
        self._pairs = re.compile(f"(?:{ESCAPE}[{pairs}])+")
        self._held = ""
        """An escape at the end of the text so far."""

    def split(self, part: Input) -> list[Input]:
        """The pieces of new input, in order; an escape at its end waits for what follows."""
        if part.pasted or self._pairs.fullmatch(part.text):
            return [*self.flush(), part]
        text, self._held = self._held + part.text, ""
        if text.endswith(ESCAPE):
            text, self._held = text[:-1], ESCAPE
        pieces, start = list[str](), 0
        for lone in LONE.finditer(text + self._held):
            pieces += [text[start : lone.start()], ESCAPE]
            start = lone.end()
        return [Input(piece, False) for piece in (*pieces, text[start:]) if piece]

    def flush(self) -> list[Input]:
        """The escape that nothing followed."""
        held, self._held = self._held, ""
        return [Input(held, False)] if held else []
