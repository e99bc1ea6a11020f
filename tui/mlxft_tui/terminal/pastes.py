"""What is pasted, taken out of what is typed."""

from __future__ import annotations

from typing import NamedTuple

BEGIN = "\x1b[200~"
END = "\x1b[201~"
"""What a terminal writes around what is pasted, once it was asked to."""


class Part(NamedTuple):
    """A text, and whether it was pasted."""

    text: str
    pasted: bool


class Pastes:
    """Parts the terminal's text into keys and pastes, whatever signs a paste holds.

    Textual's parser takes an escape within a paste for its end: what follows would act as keys, and
    come before what was pasted.
    """

    def __init__(self) -> None:
        self._held = ""
        """The beginning of a mark whose rest has not come yet."""
        self._pasted: list[str] | None = None
        """What has come of a paste that goes on."""
        self._was_cut = False
        """Whether a paste was ended that may go on all the same."""

    def parted(self, text: str) -> list[Part]:
        """What has come, in order; a paste comes in one, at its end."""
        rest, self._held = self._held + text, ""
        parts, rest = self._late(rest)
        while rest:
            mark = BEGIN if self._pasted is None else END
            before, found, rest = rest.partition(mark)
            if not found:
                # An escape alone is a key, for which nobody wants to wait.
                begun = _begun(before, mark, 2 if self._pasted is None else 1)
                before, self._held = before[: len(before) - begun], before[len(before) - begun :]
            if self._pasted is None:
                parts += [Part(before, False)] if before else []
                self._pasted = [] if found else None
            else:
                self._pasted.append(before)
                parts += self.ended() if found else []
        return parts

    def _late(self, text: str) -> tuple[list[Part], str]:
        """The rest of a paste that was cut, where that comes at last, and what follows it."""
        late, found, rest = text.partition(END)
        if not self._was_cut or self._pasted is not None or not found:
            return [], text
        self._was_cut = False
        return ([], text) if BEGIN in late else ([Part(late, True)], rest)

    def waited(self) -> list[Part]:
        """What was held back for a mark that does not come; a paste waits for its end."""
        if self._pasted is not None or not self._held:
            return []
        held, self._held = self._held, ""
        return [Part(held, False)]

    def ended(self) -> list[Part]:
        """The paste that has not ended, as if it had: its end may be lost."""
        if self._pasted is None:
            return []
        text = "".join([*self._pasted, self._held])
        self._pasted, self._held = None, ""
        return [Part(text, True)]

    def cut(self) -> list[Part]:
        """End a paste that has been silent for too long; should its rest come, that is pasted."""
        self._was_cut = self._was_cut or self._pasted is not None
        return self.ended()


def _begun(text: str, mark: str, least: int) -> int:
    """How many of the last signs, if so many at least, may be the beginning of a mark."""
    lengths = range(len(mark) - 1, least - 1, -1)
    return next((length for length in lengths if text.endswith(mark[:length])), 0)
