"""Separate pasted text from keys."""

from __future__ import annotations

from typing import NamedTuple

BEGIN = "\x1b[200~"
END = "\x1b[201~"
"""The marks of bracketed paste mode."""


class Input(NamedTuple):
    """Text from the terminal, pasted or typed."""

    text: str
    pasted: bool


class Pastes:
    """Splits terminal input into keys and pastes, whatever a paste contains.

    Textual's parser ends a paste at any escape: what follows would act as keys, ahead of the
    pasted text.
    """

    def __init__(self) -> None:
        self._held = ""
        """The start of a mark whose rest hasn't arrived."""
        self._pasted: list[str] | None = None
        """What has arrived of an unfinished paste."""
        self._was_cut = False
        """Whether a paste was cut whose rest may still arrive."""

    def feed(self, text: str) -> list[Input]:
        """Split new text, in order; a paste is returned whole, at its end."""
        rest, self._held = self._held + text, ""
        parts, rest = self._late_rest(rest)
        while rest:
            mark = BEGIN if self._pasted is None else END
            before, found, rest = rest.partition(mark)
            if not found:
                # A single escape is a key and must not wait.
                partial = _partial_mark(before, mark, 2 if self._pasted is None else 1)
                end = len(before) - partial
                before, self._held = before[:end], before[end:]
            if self._pasted is None:
                parts += [Input(before, False)] if before else []
                self._pasted = [] if found else None
            else:
                self._pasted.append(before)
                parts += self.end() if found else []
        return parts

    def _late_rest(self, text: str) -> tuple[list[Input], str]:
        """The late rest of a paste that was cut, and the text after it."""
        late, found, rest = text.partition(END)
        if not self._was_cut or self._pasted is not None or not found:
            return [], text
        self._was_cut = False
        return ([], text) if BEGIN in late else ([Input(late, True)], rest)

    def flush(self) -> list[Input]:
        """What was held back for a mark that didn't arrive; an unfinished paste keeps waiting."""
        if self._pasted is not None or not self._held:
            return []
        held, self._held = self._held, ""
        return [Input(held, False)]

    def end(self) -> list[Input]:
        """End the unfinished paste, whose end mark may be lost."""
        if self._pasted is None:
            return []
        text = "".join([*self._pasted, self._held])
        self._pasted, self._held = None, ""
        return [Input(text, True)]

    def cut(self) -> list[Input]:
        """End a paste that paused for too long; if its rest arrives, that counts as pasted."""
        self._was_cut = self._was_cut or self._pasted is not None
        return self.end()


def _partial_mark(text: str, mark: str, minimum: int) -> int:
    """How many characters at the end start the mark, or 0 if fewer than `minimum`."""
    lengths = range(len(mark) - 1, minimum - 1, -1)
    return next((length for length in lengths if text.endswith(mark[:length])), 0)
