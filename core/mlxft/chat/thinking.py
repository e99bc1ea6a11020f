"""The part of an answer in which a model thinks, apart from what it says."""

from __future__ import annotations

import re
from typing import NamedTuple

_OPENING = re.compile(r"\A\s*<(think|thinking|reasoning)>\n?")
_CLOSING = re.compile(r"</(think|thinking|reasoning)>\s*")


class Said(NamedTuple):
    """What a model thought and what it said; `thinks` while the thought has no end yet."""

    thought: str
    text: str
    thinks: bool = False


def parted(answer: str) -> Said:
    """An answer, whole or as far as it has come, in its two parts.

    A thought without a beginning is one that the model's chat template has begun.
    """
    opening, closing = _OPENING.match(answer), _CLOSING.search(answer)
    start = opening.end() if opening else 0
    if closing is not None and (opening is not None or "<think" not in answer[: closing.start()]):
        return Said(answer[start : closing.start()].strip(), answer[closing.end() :])
    if opening is not None:
        return Said(answer[start:].strip(), "", thinks=True)
    return Said("", answer)
