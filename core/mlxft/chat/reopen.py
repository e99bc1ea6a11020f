"""Rebuilds past conversations from a project's history."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache

from mlxft.chat.answerers import BASE, Answerer, NameOf, title_with_run
from mlxft.chat.dialogue import Dialogue, Turn, records
from mlxft.chat.history import Expected, HistoryEntry
from mlxft.conversation.messages import Message, Sampling
from mlxft.data.examples import Example


@dataclass(frozen=True)
class Conversation:
    """The history entries of one conversation, in the order they were answered."""

    name: str
    entries: Sequence[HistoryEntry]

    @property
    def first_prompt(self) -> str:
        """The prompt it began with."""
        return self.entries[0].prompt

    @property
    def prompts(self) -> int:
        """How many prompts it has."""
        return len({each.turn for each in self.entries})

    @property
    def system(self) -> str:
        """Its system prompt, if any; those of examples don't count."""
        last = next((each for each in reversed(self.entries) if not _alone(each)), None)
        first = last.messages[0] if last else None
        return first.content if first and first.role == "system" else ""

    @property
    def time(self) -> float:
        """When the last answer was given."""
        return self.entries[-1].time


def conversations(history: Iterable[HistoryEntry]) -> list[Conversation]:
    """The conversations of a history, latest first."""
    entries: dict[str, list[HistoryEntry]] = {}
    for each in history:
        entries.setdefault(each.conversation, []).append(each)
    found = [Conversation(name, answers) for name, answers in entries.items()]
    return sorted(found, key=lambda each: each.time, reverse=True)


def history_entry(
    dialogue: Dialogue,
    turn: Turn,
    answerer: Answerer,
    asked: Sequence[Message],
    *,
    followed: str,
    model: str,
    sampling: Sampling,
    time: float,
) -> HistoryEntry:
    """An answer of a turn as a history entry; `asked` is the conversation the model got."""
    before = dialogue.before(turn)
    while before is not None and not before.answers:
        before = dialogue.before(before)
    example = turn.example
    return HistoryEntry(
        messages=(*asked, Message("assistant", turn.answers[answerer])),
        answerer=str(answerer.named(followed)),
        title=turn.titles[answerer],
        model=model,
        time=time,
        conversation=dialogue.name,
        turn=turn.number,
        after=before.number if before else 0,
        column=list(turn.titles).index(answerer),
        sampling=sampling,
        expected=Expected(example.expected, example.place) if example else None,
        end=turn.ends.get(answerer, "stop"),
        alone=bool(turn.alone),
        attempt=turn.attempts,
    )


def reopened(conversation: Conversation, followed: str, name_of: NameOf = str) -> Dialogue:
    """The conversation with its branches; the latest one is in view."""
    name_of = cache(name_of)
    dialogue = Dialogue(conversation.name)
    entries: dict[int, list[HistoryEntry]] = {}
    for each in conversation.entries:
        entries.setdefault(each.turn, []).append(each)
    turns: dict[int, Turn] = {}
    for number, answers in sorted(entries.items()):
        shown = _latest_attempt(answers)
        first = shown[0]
        turn = Turn(first.prompt, _example(first), number=number, alone=_alone(first))
        turn.attempts = first.attempt
        dialogue.insert(turns.get(first.after), turn)
        turns[number] = turn
        for each in shown:
            _add_answer(turn, each, followed, name_of)
    return dialogue


def exported(conversation: Conversation) -> tuple[list[tuple[Message, ...]], int]:
    """Its latest branch as training records, and how many prompts have no complete answer.

    Of answers side by side those at the right count, the adapter's as a rule.
    """
    turns = reopened(conversation, "").turns
    answerers = [answerer for turn in turns for answerer in turn.texts]
    chosen = next((each for each in reversed(answerers) if each != BASE), BASE)
    return records(turns, chosen, conversation.system)


def _add_answer(turn: Turn, entry: HistoryEntry, followed: str, name_of: NameOf) -> None:
    answerer = Answerer.parse(entry.answerer).seen_from(followed)
    turn.titles[answerer] = _title(answerer, entry.title, name_of)
    turn.add(answerer, entry.answer, entry.end)


def _title(answerer: Answerer, title: str, name_of: NameOf) -> str:
    """Its title at the time, with the present name of its run."""
    if not answerer.run:
        return title
    name = name_of(answerer.run)
    named = title_with_run(title, name)
    # A run that is gone has no other name than the one in the title.
    is_renamed = named == title and name != answerer.run
    return replace(answerer, run=name).title() if is_renamed else named


def _latest_attempt(entries: Sequence[HistoryEntry]) -> list[HistoryEntry]:
    """Each answerer's last answer in the latest attempt, in column order."""
    attempt = max(each.attempt for each in entries)
    last = {each.answerer: each for each in entries if each.attempt == attempt}
    return sorted(last.values(), key=lambda each: each.column)


def _alone(entry: HistoryEntry) -> tuple[Message, ...]:
    """The messages of a turn sent alone, which an example always was."""
    return entry.messages[:-1] if entry.alone or entry.expected is not None else ()


def _example(entry: HistoryEntry) -> Example | None:
    if entry.expected is None:
        return None
    return Example(entry.messages[:-1], entry.expected.text, entry.expected.place)
