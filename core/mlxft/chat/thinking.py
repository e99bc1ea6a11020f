"""Separates a reasoning model's thinking from its answer."""

from __future__ import annotations

import re
from typing import NamedTuple

_OPENING = re.compile(r"\A\s*<(think|thinking|reasoning)>\n?")
_CLOSING = re.compile(r"</(think|thinking|reasoning)>\s*")


class SplitAnswer(NamedTuple):
    """The thinking in an answer and the text after it."""

    thinking: str
    text: str
    is_thinking: bool = False
    """Whether the thinking has no end yet."""


def split_thinking(answer: str) -> SplitAnswer:
    """Split an answer, complete or partial.

    Thinking may lack its opening tag, since some chat templates put that into the prompt.
    """
    opening, closing = _OPENING.match(answer), _CLOSING.search(answer)
    start = opening.end() if opening else 0
    if closing is not None and (opening is not None or "<think" not in answer[: closing.start()]):
        return SplitAnswer(answer[start : closing.start()].strip(), answer[closing.end() :])
    if opening is not None:
        return SplitAnswer(answer[start:].strip(), "", is_thinking=True)
    return SplitAnswer("", answer)
