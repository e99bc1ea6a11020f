"""Detects stop strings while an answer is generated."""

from __future__ import annotations


class StopStrings:
    """Passes text through up to a stop string, holding back what may be the start of one."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = tuple(each for each in stops if each)
        self._held = ""
        self.found = False
        """Whether a stop string was found; no text passes after it."""

    def filter(self, piece: str) -> str:
        """Take a piece and return the text now known to belong to the answer."""
        if self.found:
            return ""
        text = self._held + piece
        ends = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if ends:
            self.found, self._held = True, ""
            return text[: min(ends)]
        held = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def flush(self) -> str:
        """The text still held back at the end of the answer."""
        rest, self._held = self._held, ""
        return rest


def _overlap(text: str, stop: str) -> int:
    """The number of characters at the text's end that may start the stop string."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
