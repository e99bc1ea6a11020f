"""Conversations of the past, put together from a project's history."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mlxft.chat.answerers import Side, named_from, named_in_full, run_of, titled_in_full
from mlxft.chat.dialogue import Dialogue, Turn
from mlxft.chat.history import Expected, Said
from mlxft.conversation.messages import Message, Sampling
from mlxft.data.examples import Example


@dataclass(frozen=True)
class Conversation:
    """All that was said in one conversation, in the order in which it was answered."""

    name: str
    said: Sequence[Said]

    @property
    def first_prompt(self) -> str:
        """What it began with."""
        return self.said[0].prompt

    @property
    def prompts(self) -> int:
        """How many questions were asked in it."""
        return len({each.turn for each in self.said})

    @property
    def system(self) -> str:
        """The system prompt that it was held with, if any; a record's own is none of it."""
        last = next((each for each in reversed(self.said) if not _alone(each)), None)
        said = last.messages[0] if last else None
        return said.content if said and said.role == "system" else ""

    @property
    def time(self) -> float:
        """When the last answer was given."""
        return self.said[-1].time


def conversations(history: Iterable[Said]) -> list[Conversation]:
    """The conversations of a history, the latest first."""
    said: dict[str, list[Said]] = {}
    for each in history:
        said.setdefault(each.conversation, []).append(each)
    found = [Conversation(name, answers) for name, answers in said.items()]
    return sorted(found, key=lambda each: each.time, reverse=True)


def said(
    dialogue: Dialogue,
    turn: Turn,
    side: Side,
    asked: Sequence[Message],
    *,
    followed: str,
    model: str,
    sampling: Sampling,
    time: float,
) -> Said:
    """A side's answer to a turn, as it is to be remembered."""
    before = dialogue.before(turn)
    while before is not None and not before.answers:
        before = dialogue.before(before)
    return Said(
        (*asked, Message("assistant", turn.answers[side])),
        named_in_full(side, followed),
        turn.titles[side],
        model,
        time,
        dialogue.name,
        turn.number,
        before.number if before else 0,
        list(turn.titles).index(side),
        sampling,
        Expected(turn.example.expected, turn.example.place) if turn.example else None,
        turn.ends.get(side, "stop"),
        bool(turn.alone),
        turn.attempts,
    )


def reopened(conversation: Conversation, followed: str) -> Dialogue:
    """The conversation with its branches, to be gone on with; the last one asked is in view."""
    dialogue = Dialogue(conversation.name)
    answers: dict[int, list[Said]] = {}
    for each in conversation.said:
        answers.setdefault(each.turn, []).append(each)
    turns: dict[int, Turn] = {}
    for number, said in sorted(answers.items()):
        standing = _standing(said)
        first = standing[0]
        turn = Turn(first.prompt, _example(first), number=number, alone=_alone(first))
        turn.attempts = first.attempt
        dialogue.insert(turns.get(first.after), turn)
        turns[number] = turn
        for each in standing:
            side = named_from(each.side, followed)
            run = run_of(side)
            turn.titles[side] = titled_in_full(each.title, run) if run else each.title
            turn.take(side, each.answer, each.end)
    return dialogue


def _standing(said: Sequence[Said]) -> list[Said]:
    """Of the answers to a turn those in view: each side's last of the latest attempt."""
    attempt = max(each.attempt for each in said)
    last = {each.side: each for each in said if each.attempt == attempt}
    return sorted(last.values(), key=lambda each: each.column)


def _alone(said: Said) -> tuple[Message, ...]:
    """What was asked by itself; an example always was."""
    return said.messages[:-1] if said.alone or said.expected is not None else ()


def _example(said: Said) -> Example | None:
    if said.expected is None:
        return None
    return Example(said.messages[:-1], said.expected.text, said.expected.place)
