"""A conversation with its branches, and what the model gets to read of it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from random import randrange
from typing import Final, Literal, TypeAlias, TypeVar

from msgspec.structs import replace

from mlxft.chat.answerers import Answerer, Rename
from mlxft.chat.thinking import split_thinking
from mlxft.conversation.messages import Answer, Message
from mlxft.data.examples import Example
from mlxft.text import figures

T = TypeVar("T")

JITTER: Final = 1_000_000
"""Microseconds of random jitter in a turn's number."""

End: TypeAlias = Literal["stop", "length", "cancelled"]
"""How an answer ended."""

ENDINGS: Final[dict[End, str]] = {
    "stop": "",
    "length": "cut at max tokens",
    "cancelled": "stopped",
}
"""How an answer ended, in words."""


@dataclass(eq=False)
class Turn:
    """A prompt and its answers."""

    prompt: str
    example: Example | None = None
    _: KW_ONLY
    answers: dict[Answerer, str] = field(default_factory=dict)
    titles: dict[Answerer, str] = field(default_factory=dict)
    """The answerers' titles at the time, in column order."""
    ends: dict[Answerer, End] = field(default_factory=dict)
    costs: dict[Answerer, str] = field(default_factory=dict)
    """Time and speed of each answer in a line; empty for reopened conversations."""
    attempts: int = 0
    """How often the prompt was retried, here and in earlier branches."""
    number: int = 0
    """Increases from turn to turn: microseconds of the clock plus jitter, so that two viewers
    continuing one conversation don't use the same number."""
    alone: tuple[Message, ...] = ()
    """Messages sent in place of the conversation so far, as for an example; the last one is the
    prompt."""

    def __post_init__(self) -> None:
        if self.example is not None:
            self.alone = self.example.messages

    def rewritten(self, prompt: str) -> Turn:
        """A turn without answers, sent the same way; a changed prompt has no expected answer."""
        if prompt == self.prompt:
            return Turn(prompt, self.example, alone=self.alone)
        alone = (*self.alone[:-1], replace(self.alone[-1], content=prompt)) if self.alone else ()
        return Turn(prompt, alone=alone)

    @property
    def answered(self) -> list[tuple[Answerer, str]]:
        """The answerers with an answer and their titles, in column order."""
        return [(each, title) for each, title in self.titles.items() if each in self.answers]

    @property
    def texts(self) -> dict[Answerer, str]:
        """The answers that aren't empty."""
        return {answerer: answer for answerer, answer in self.answers.items() if answer}

    @property
    def is_answered(self) -> bool:
        """Whether an answer was completed."""
        return any(end != "cancelled" for end in self.ends.values())

    def add(self, answerer: Answerer, answer: str, end: End) -> None:
        """Add the answer of an answerer that has a title; answers stay in column order."""
        self.answers[answerer], self.ends[answerer] = answer, end
        self.answers = {each: self.answers[each] for each in self.titles if each in self.answers}

    def clear(self) -> None:
        """Remove all answers."""
        for each in (self.answers, self.titles, self.ends, self.costs):
            each.clear()


class Dialogue:
    """A tree of turns: each prompt may have several versions, of which one is in view."""

    def __init__(self, name: str = "") -> None:
        self.name = name or uuid.uuid4().hex
        """Identifies the conversation in the history."""
        self._following: dict[Turn | None, list[Turn]] = {None: []}
        self._chosen: dict[Turn | None, Turn] = {}

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The branch in view, first turn first."""
        found: list[Turn] = []
        turn: Turn | None = None
        while (turn := self._chosen.get(turn)) is not None:
            found.append(turn)
        return tuple(found)

    def up_to(self, turn: Turn) -> tuple[Turn, ...]:
        """The branch in view up to and including a turn of it."""
        turns = self.turns
        return turns[: turns.index(turn) + 1]

    def add(self, turn: Turn) -> None:
        """Append a turn to the branch in view."""
        turns = self.turns
        self.insert(turns[-1] if turns else None, turn)

    def edit(self, turn: Turn, instead: Turn) -> None:
        """Add another version of a turn; the old one keeps everything after it."""
        self.insert(self.before(turn), instead)

    def retry(self, turn: Turn) -> Turn:
        """Add a version with the same prompt and a new attempt number, and return it."""
        again = turn.rewritten(turn.prompt)
        again.attempts = 1 + max(each.attempts for each in self._following[self.before(turn)])
        self.edit(turn, again)
        return again

    def branches(self, turn: Turn) -> tuple[int, int]:
        """A turn's position among its versions, from 1, and how many there are."""
        versions = self._following[self.before(turn)]
        return versions.index(turn) + 1, len(versions)

    def switch(self, turn: Turn, by: int) -> None:
        """Show another version of a turn and what followed that one."""
        before = self.before(turn)
        versions = self._following[before]
        self._chosen[before] = versions[(versions.index(turn) + by) % len(versions)]

    def show(self, turn: Turn) -> None:
        """Bring a turn into view, with those before it."""
        at: Turn | None = turn
        while at is not None:
            before = self.before(at)
            self._chosen[before] = at
            at = before

    def insert(self, before: Turn | None, turn: Turn) -> None:
        """Put a turn after another, or at the beginning, and into view."""
        latest = max((each.number for each in self._following if each), default=0)
        turn.number = turn.number or max(latest, time.time_ns() // 1000) + 1 + randrange(JITTER)
        self._following[before].append(turn)
        self._following[turn] = []
        self._chosen[before] = turn

    def rename(self, rename: Rename) -> None:
        """Rename the answerers of all turns, after another run is followed."""
        for turn in filter(None, self._following):
            renamed = {each: rename(each, title) for each, title in turn.titles.items()}
            names = {each: new for each, (new, _) in renamed.items()}
            turn.titles = dict(renamed.values())
            turn.answers = _with_keys(turn.answers, names)
            turn.ends = _with_keys(turn.ends, names)
            turn.costs = _with_keys(turn.costs, names)

    def before(self, turn: Turn) -> Turn | None:
        """The turn before; None for a first one."""
        return next(before for before, turns in self._following.items() if turn in turns)


def _with_keys(
    values: Mapping[Answerer, T], keys: Mapping[Answerer, Answerer]
) -> dict[Answerer, T]:
    return {keys[each]: value for each, value in values.items()}


def messages(turns: Iterable[Turn], answerer: Answerer, system: str = "") -> tuple[Message, ...]:
    """The conversation an answerer gets, ending with the last turn's prompt.

    Turns it didn't answer are left out, since it would imitate the other model's answers; so is
    all thinking.
    """
    shown = tuple(turns)
    answered = earlier(shown, answerer)
    return _with_system([*_exchanges(answered, answerer), *_prompt(shown[-1])], system)


def earlier(turns: Iterable[Turn], answerer: Answerer) -> list[Turn]:
    """The turns before the last one that an answerer gets to read with it."""
    *before, _ = _since_alone(turns)
    return [turn for turn in before if answerer in turn.texts]


def missed(turns: Iterable[Turn], answerer: Answerer) -> int:
    """How many earlier prompts are left out for an answerer because only others answered them."""
    *before, _ = _since_alone(turns)
    return sum(bool(turn.texts) and answerer not in turn.texts for turn in before)


def records(
    turns: Iterable[Turn], answerer: Answerer, system: str = ""
) -> tuple[list[tuple[Message, ...]], int]:
    """Training records made of an answerer's complete answers, and how many prompts are left out.

    Each turn sent alone begins a new record.
    """
    found: list[tuple[Message, ...]] = []
    left_out = 0
    for section in _sections(turns):
        kept = [
            turn
            for turn in section
            if answerer in turn.texts and turn.ends.get(answerer, "stop") != "cancelled"
        ]
        left_out += len(section) - len(kept)
        if kept:
            found.append(_with_system(_exchanges(kept, answerer), system))
    return found, left_out


def _since_alone(turns: Iterable[Turn]) -> list[Turn]:
    """The turns from the last one that was sent alone."""
    return _sections(turns)[-1]


def _sections(turns: Iterable[Turn]) -> list[list[Turn]]:
    """The turns, split before each that was sent alone."""
    found: list[list[Turn]] = []
    for turn in turns:
        if turn.alone or not found:
            found.append([])
        found[-1].append(turn)
    return found


def _exchanges(answered: Iterable[Turn], answerer: Answerer) -> list[Message]:
    found: list[Message] = []
    for turn in answered:
        text = split_thinking(turn.answers[answerer]).text
        found += [*_prompt(turn), Message("assistant", text)]
    return found


def _with_system(conversation: Sequence[Message], system: str) -> tuple[Message, ...]:
    """The conversation after the system prompt, unless it begins with its own."""
    added = system and conversation[0].role != "system"
    return (*([Message("system", system)] if added else []), *conversation)


def _prompt(turn: Turn) -> tuple[Message, ...]:
    return turn.alone or (Message("user", turn.prompt),)


def cost(answer: Answer) -> str:
    """An answer's time, speed and end in a line."""
    ending = ENDINGS[answer.finish_reason]
    if answer.finish_reason == "length" and answer.fills_context:
        ending = "context full, begin a new conversation"
    parts = [
        f"{answer.generated_tokens} tokens in {answer.seconds:.1f} s, "
        f"{figures.rate(answer.generation_speed)} tok/s"
    ]
    if answer.first_token_seconds:
        parts.append(f"first after {answer.first_token_seconds:.2f} s")
    cached = f" ({answer.reused_tokens} cached)" if answer.reused_tokens else ""
    speed = f"{figures.rate(answer.prompt_speed)} tok/s"
    parts.append(f"prompt {answer.prompt_tokens}{cached}, {speed}")
    if answer.context_length is not None:
        parts.append(f"context {answer.context_tokens / answer.context_length:.0%}")
    return "  ".join(filter(None, [*parts, ending]))


def verdict(turn: Turn, answerer: Answerer) -> str:
    """Whether an example's answer is the expected one, in words; empty for other prompts."""
    if turn.example is None or turn.ends.get(answerer) == "cancelled":
        return ""
    answer = split_thinking(turn.answers[answerer]).text
    same = answer.strip() == turn.example.expected.strip()
    return "✓ as expected" if same else "✗ not as expected"


def status(turn: Turn, answerer: Answerer) -> str:
    """The line below a finished answer."""
    ending = ENDINGS[turn.ends.get(answerer, "stop")]
    parts = [verdict(turn, answerer), turn.costs.get(answerer, ending)]
    return "  ".join(filter(None, parts))
