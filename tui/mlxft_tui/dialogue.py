"""What was asked and answered, and the prompts that a data set offers; no widget."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from mlxft.conversation import Answer, Message
from mlxft.data import formats
from mlxft.data.dataset import split_file
from mlxft.data.validation import scan
from mlxft_tui import figures

Side = Literal["base", "adapter"]
"""Who answers: the model as it came, or with the adapter."""


@dataclass(frozen=True)
class Example:
    """A record's prompt with the answer the record expects, and the place it comes from."""

    messages: tuple[Message, ...]
    expected: str
    place: str

    @property
    def prompt(self) -> str:
        """The last thing said before the answer."""
        return self.messages[-1].content


@dataclass
class Turn:
    """A prompt and its answers; an example is asked by itself, without what was said before."""

    prompt: str
    example: Example | None = None
    answers: dict[Side, str] = field(default_factory=dict)


def messages(turns: Iterable[Turn], side: Side) -> tuple[Message, ...]:
    """The conversation up to the last turn as that side has it, ready to be continued.

    What a side has not answered itself it takes from the other; unanswered turns are left out.
    """
    said: list[Message] = []
    *before, last = turns
    for turn in before:
        answer = turn.answers.get(side) or next(iter(turn.answers.values()), None)
        if turn.example is not None:
            said = []
        if answer:
            said += [*_prompt(turn), Message("assistant", answer)]
    if last.example is not None:
        said = []
    return (*said, *_prompt(last))


def _prompt(turn: Turn) -> tuple[Message, ...]:
    return turn.example.messages if turn.example else (Message("user", turn.prompt),)


def examples(folder: Path) -> Iterator[Example]:
    """The prompts of the test set, else of the validation set, in file order."""
    for name in ("test", "valid"):
        path = split_file(folder, "test" if name == "test" else "valid")
        if path.is_file():
            for line in scan(path):
                example = _example(line.fields, f"{path.name} line {line.number}")
                if example is not None and not line.faults:
                    yield example
            return


def _example(fields: formats.Fields | None, place: str) -> Example | None:
    said = formats.conversation(fields) if fields is not None else None
    if not said or len(said) < 2 or said[-1].get("role") != "assistant":
        return None
    try:
        *before, expected = msgspec.convert(said, list[Message])
    except msgspec.ValidationError:
        return None
    return Example(tuple(before), expected.content, place)


def cost(answer: Answer) -> str:
    """What an answer took, in a line."""
    ends = {"stop": "", "length": "  cut at the limit", "cancelled": "  stopped"}
    return (
        f"{answer.generated_tokens} tokens  {figures.rate(answer.generation_speed)} tok/s  "
        f"prompt {answer.prompt_tokens} at {figures.rate(answer.prompt_speed)}  "
        f"{answer.seconds:.1f} s{ends[answer.finish_reason]}"
    )
