"""The end of an answer at a text that the user named, found while the answer is written."""

from __future__ import annotations


class StopStrings:
    """Passes text on until a stop string; what may be the beginning of one waits."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = tuple(each for each in stops if each)
        self._waiting = ""
        self.found = False
        """Whether a stop string has come; nothing is passed on from then on."""

    def passed(self, piece: str) -> str:
        """What is certain to belong to the answer after this piece."""
        if self.found:
            return ""
        text = self._waiting + piece
        ends = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if ends:
            self.found, self._waiting = True, ""
            return text[: min(ends)]
        held = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._waiting = text[len(text) - held :]
        return text[: len(text) - held]

    def rest(self) -> str:
        """What waited and turned out to be text, at the answer's end."""
        rest, self._waiting = self._waiting, ""
        return rest


def _overlap(text: str, stop: str) -> int:
    """How many of the text's last characters may begin the stop string."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
