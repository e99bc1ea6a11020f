"""What was asked and answered, with its branches; no widget."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import randrange
from typing import Literal, TypeAlias, TypeVar

from msgspec.structs import replace

from mlxft.chat.answerers import NameAnew, Side
from mlxft.chat.thinking import parted
from mlxft.conversation.messages import Answer, Message
from mlxft.data.examples import Example
from mlxft.text import figures

T = TypeVar("T")

APART = 1_000_000
"""Numbers that a turn's is chosen from, a second's worth."""

End: TypeAlias = Literal["stop", "length", "cancelled"]
"""How an answer ended."""


@dataclass(eq=False)
class Turn:
    """A prompt and its answers."""

    prompt: str
    example: Example | None = None
    answers: dict[Side, str] = field(default_factory=dict)
    titles: dict[Side, str] = field(default_factory=dict)
    """Who gave each answer, in the words of that time."""
    ends: dict[Side, End] = field(default_factory=dict)
    """How each answer ended."""
    costs: dict[Side, str] = field(default_factory=dict)
    """What each answer took, in a line; nothing of answers of the past."""
    attempts: int = 0
    """How often its prompt was asked again, here and in branches before this one."""
    number: int = 0
    """Grows in the order in which the turns of a dialogue were made. It is the microsecond of that
    and a little by chance, so that two viewers who go on with one conversation don't give two turns
    the same, though the clock had been ahead."""
    alone: tuple[Message, ...] = ()
    """What is asked in place of the prompt after what was said before, as an example is; it ends
    with the prompt."""

    def __post_init__(self) -> None:
        if self.example is not None:
            self.alone = self.example.messages

    def written_anew(self, prompt: str) -> Turn:
        """The same turn without answers, asked as this one was; another prompt expects nothing."""
        if prompt == self.prompt:
            return Turn(prompt, self.example, alone=self.alone)
        alone = (*self.alone[:-1], replace(self.alone[-1], content=prompt)) if self.alone else ()
        return Turn(prompt, alone=alone)

    @property
    def answered(self) -> list[tuple[Side, str]]:
        """Who has answered, with the title of each, in the order of the columns."""
        return [(side, title) for side, title in self.titles.items() if side in self.answers]

    @property
    def said(self) -> dict[Side, str]:
        """The answers of which anything has come."""
        return {side: answer for side, answer in self.answers.items() if answer}

    @property
    def is_answered(self) -> bool:
        """Whether an answer came to its end."""
        return any(end != "cancelled" for end in self.ends.values())

    def take(self, side: Side, answer: str, end: End) -> None:
        """Add the answer of a titled side; answers are kept in the order of the columns."""
        self.answers[side], self.ends[side] = answer, end
        self.answers = {each: self.answers[each] for each in self.titles if each in self.answers}


class Dialogue:
    """The turns of a conversation, of which each prompt may have been written in several ways."""

    def __init__(self, name: str = "") -> None:
        self.name = name or uuid.uuid4().hex
        """By which its history is found."""
        self._following: dict[Turn | None, list[Turn]] = {None: []}
        self._chosen: dict[Turn | None, Turn] = {}

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The branch in view, from its first turn to its last."""
        found: list[Turn] = []
        turn: Turn | None = None
        while (turn := self._chosen.get(turn)) is not None:
            found.append(turn)
        return tuple(found)

    def add(self, turn: Turn) -> None:
        """Go on with a turn."""
        turns = self.turns
        self.insert(turns[-1] if turns else None, turn)

    def edit(self, turn: Turn, instead: Turn) -> None:
        """Branch off before a turn; what was said from there on is kept."""
        self.insert(self.before(turn), instead)

    def repeat(self, turn: Turn) -> Turn:
        """Branch off with the same prompt, to be answered unlike in any way before."""
        again = turn.written_anew(turn.prompt)
        again.attempts = 1 + max(way.attempts for way in self._following[self.before(turn)])
        self.edit(turn, again)
        return again

    def branches(self, turn: Turn) -> tuple[int, int]:
        """Which of how many ways of writing a turn this is, from 1."""
        ways = self._following[self.before(turn)]
        return ways.index(turn) + 1, len(ways)

    def switch(self, turn: Turn, by: int) -> None:
        """Show another way of writing a turn, with all that followed it."""
        before = self.before(turn)
        ways = self._following[before]
        self._chosen[before] = ways[(ways.index(turn) + by) % len(ways)]

    def show(self, turn: Turn) -> None:
        """Bring a turn into view, with those that it follows."""
        at: Turn | None = turn
        while at is not None:
            before = self.before(at)
            self._chosen[before] = at
            at = before

    def insert(self, before: Turn | None, turn: Turn) -> None:
        """Put a turn after another, or at the beginning, and into view."""
        latest = max((each.number for each in self._following if each), default=0)
        turn.number = turn.number or max(latest, time.time_ns() // 1000) + 1 + randrange(APART)
        self._following[before].append(turn)
        self._following[turn] = []
        self._chosen[before] = turn

    def name_anew(self, anew: NameAnew) -> None:
        """Say anew who has answered, once another run is followed."""
        for turn in filter(None, self._following):
            named = {side: anew(side, title) for side, title in turn.titles.items()}
            sides = {side: new for side, (new, _) in named.items()}
            turn.titles = dict(named.values())
            turn.answers = _renamed(turn.answers, sides)
            turn.ends = _renamed(turn.ends, sides)
            turn.costs = _renamed(turn.costs, sides)

    def before(self, turn: Turn) -> Turn | None:
        """The turn that another one follows; None for a first one."""
        return next(before for before, ways in self._following.items() if turn in ways)


def _renamed(values: Mapping[Side, T], names: Mapping[Side, Side]) -> dict[Side, T]:
    return {names[side]: value for side, value in values.items()}


def messages(turns: Iterable[Turn], side: Side, system: str = "") -> tuple[Message, ...]:
    """The conversation up to the last turn as that side has it, ready to be continued.

    Turns that it has not answered itself are left out, since it would copy the answers of another;
    so is what a model thought.
    """
    *before, last = _together(turns)
    answered = [turn for turn in before if side in turn.said]
    return _opened([*_exchanges(answered, side), *_prompt(last)], system)


def missed(turns: Iterable[Turn], side: Side) -> int:
    """How many prompts before the last one, though answered by another, are left out for a side."""
    *before, _ = _together(turns)
    return sum(bool(turn.said) and side not in turn.said for turn in before)


def records(
    turns: Iterable[Turn], side: Side, system: str = ""
) -> tuple[list[tuple[Message, ...]], int]:
    """What was said together, with those of a side's answers that came to their end, as it is to be
    trained on, and how many prompts are left out."""
    found: list[tuple[Message, ...]] = []
    left_out = 0
    for together in _parts(turns):
        kept = [
            turn
            for turn in together
            if side in turn.said and turn.ends.get(side, "stop") != "cancelled"
        ]
        left_out += len(together) - len(kept)
        if kept:
            found.append(_opened(_exchanges(kept, side), system))
    return found, left_out


def _together(turns: Iterable[Turn]) -> list[Turn]:
    """The turns from the last one that was asked alone."""
    return _parts(turns)[-1]


def _parts(turns: Iterable[Turn]) -> list[list[Turn]]:
    """The turns that were said together; one that was asked alone begins anew."""
    found: list[list[Turn]] = []
    for turn in turns:
        if turn.alone or not found:
            found.append([])
        found[-1].append(turn)
    return found


def _exchanges(answered: Iterable[Turn], side: Side) -> list[Message]:
    said: list[Message] = []
    for turn in answered:
        said += [*_prompt(turn), Message("assistant", parted(turn.answers[side]).text)]
    return said


def _opened(said: Sequence[Message], system: str) -> tuple[Message, ...]:
    """What was said, after the system prompt where it has none of its own."""
    told = (Message("system", system),) if system and said[0].role != "system" else ()
    return (*told, *said)


def _prompt(turn: Turn) -> tuple[Message, ...]:
    return turn.alone or (Message("user", turn.prompt),)


def cost(answer: Answer) -> str:
    """What an answer took, in a line."""
    full = answer.context_length is not None and answer.context_tokens >= answer.context_length
    cut = "context full, ctrl+l begins anew" if full else "cut at max tokens"
    ends = {"stop": "", "length": f"  {cut}", "cancelled": "  stopped"}
    parts = [
        f"{answer.generated_tokens} tokens in {answer.seconds:.1f} s, "
        f"{figures.rate(answer.generation_speed)} tok/s"
    ]
    if answer.first_token_seconds:
        parts.append(f"first after {answer.first_token_seconds:.2f} s")
    cached = f" ({answer.reused_tokens} cached)" if answer.reused_tokens else ""
    speed = f"{figures.rate(answer.prompt_speed)} tok/s"
    parts.append(f"prompt {answer.prompt_tokens}{cached}, {speed}")
    return f"{'  '.join(parts)}{_context(answer)}{ends[answer.finish_reason]}"


def verdict(turn: Turn, side: Side) -> str:
    """Whether an example's answer is the one expected, in words; empty for another prompt."""
    if turn.example is None or turn.ends.get(side) == "cancelled":
        return ""
    same = parted(turn.answers[side]).text.strip() == turn.example.expected.strip()
    return "✓ as expected  " if same else "✗ not as expected  "


def status(turn: Turn, side: Side) -> str:
    """What is said below an answer that has ended."""
    ends = {"stop": "", "length": "cut at max tokens", "cancelled": "stopped"}
    took = turn.costs.get(side, ends[turn.ends.get(side, "stop")])
    return (verdict(turn, side) + took).strip()


def _context(answer: Answer) -> str:
    if answer.context_length is None:
        return ""
    return f"  context {answer.context_tokens / answer.context_length:.0%}"
