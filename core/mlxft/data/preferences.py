"""Preferences: a chosen and a rejected answer.

The loss sft trains the chosen one; the losses that train a preference take both.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from mlxft.data.exchanges import (
    Converted,
    Record,
    answer_messages,
    asked_messages,
    assistant_message,
    context_text,
    history_messages,
    in_messages,
    joined,
    replace,
    system_messages,
    system_of,
    with_tools,
)
from mlxft.data.formats import Fields
from mlxft.data.messages import listed, messages_of, role_of, rows_of_turns

CHOSEN_SIDE: Final = "preference, chosen side"
"""The format of records with a chosen and a rejected answer."""

_PREFERENCES: Final = (
    ("chosen", "rejected"),
    ("chosen_response", "rejected_response"),
    ("chosen_messages", "rejected_messages"),
    ("chosen_conversations", "rejected_conversations"),
    ("preferred_output", "non_preferred_output"),
    ("response_j", "response_k"),  # StackExchange pairs; j is the better one.
)
_SPEAKER_MARK: Final = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")
_CONVERSATIONS: Final = ("messages", "conversations", "conversation", "contents")
_QUESTIONS: Final = ("prompt", "question", "instruction", "query", "input")


_LISTS: Final = ("completions", "responses", "answers", "candidates")
"""Keys of several answers to one prompt."""

_ANSWERS: Final = ("completion", "response", "answer", "content", "text", "output", "message")
_SCORES: Final = ("score", "overall_score", "rating", "reward")
_RANKS: Final = ("rank", "ranking", "ranks", "rankings")
"""Lower is better; 1 is the best."""


class _Scored(NamedTuple):
    """An answer, and a number that is higher for a better one."""

    answer: Any
    score: float


def _scored(fields: Fields) -> tuple[tuple[str, ...], list[_Scored]]:
    """Answers with scores or ranks to choose by, and the keys they come from; none otherwise.

    Either a list of objects, or one list of answers and another of their scores.
    """
    for key in _LISTS:
        found = listed(fields.get(key))
        if not isinstance(found, list) or len(found) < 2:
            continue
        if all(isinstance(each, Mapping) for each in found):
            scored = [_scored_object(each) for each in found]
            if all(scored):
                return (key,), [each for each in scored if each]
        for name in (*_plurals(_SCORES), *_RANKS):
            scores = listed(fields.get(name))
            if isinstance(scores, list) and len(scores) == len(found):
                values = [_number(each) for each in scores]
                if None not in values:
                    sign = -1 if name in _RANKS else 1
                    pairs = zip(found, values, strict=True)
                    return (key, name), [_Scored(each, sign * (v or 0.0)) for each, v in pairs]
    return (), []


def _plurals(names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        yield from (f"{name}s", name)


def _scored_object(fields: Fields) -> _Scored | None:
    answer = next((fields[key] for key in _ANSWERS if key in fields), None)
    for key in (*_SCORES, *_RANKS):
        value = _number(fields.get(key))
        if answer is not None and value is not None:
            return _Scored(answer, -value if key in _RANKS else value)
    return None


def _number(value: object) -> float | None:
    """A finite number, also as the text that CSV files have."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def _preferred(fields: Fields) -> tuple[str, str] | None:
    return next((pair for pair in _PREFERENCES if pair[0] in fields and pair[1] in fields), None)


def _beside_conversation(fields: Fields) -> Record | None:
    """A conversation with its chosen answer, and the rejected one beside it, as ms-swift has it."""
    turns = fields.get("messages")
    if not isinstance(turns, list) or len(turns) < 2 or role_of(turns[-1]) != "assistant":
        return None
    rejected = fields.get("rejected_response", fields.get("rejected_messages"))
    if rejected is None:
        return None
    used = ("rejected_response", "rejected_messages")
    return replace(fields, used, messages=turns[:-1], chosen=turns[-1:], rejected=rejected)


def is_preference(fields: Fields) -> bool:
    """Whether a record holds a chosen and a rejected answer."""
    return (
        _preferred(fields) is not None
        or _beside_conversation(fields) is not None
        or bool(_scored(fields)[0])
    )


def preference(fields: Record) -> Converted:
    """A record with the chosen answer, and the same with the rejected one.

    Of several answers these are the best and the worst; equal ones leave nothing to reject.
    """
    keys: tuple[str, ...] = ()
    answers: list[_Scored] = []
    equal = False
    beside = None if _preferred(fields) else _beside_conversation(fields)
    if beside is not None:
        fields = beside
    elif not _preferred(fields):
        keys, answers = _scored(fields)
    if answers:
        by_score = sorted(answers, key=lambda each: each.score)
        equal = by_score[0].score == by_score[-1].score
        best, worst = by_score[-1].answer, by_score[0].answer
        fields = replace(fields, keys, chosen=best, rejected=worst)
    pair = _preferred(fields)
    assert pair is not None
    before, question = _before_choice(fields)
    key, system = system_of(fields)
    used = (*pair, question, key, "history", *(("input",) if question == "instruction" else ()))
    names = dict.fromkeys(("completion", "text", "messages"), pair[0])
    names["prompt"] = question
    if beside is not None:
        names["messages"] = "messages"

    def answered(side: str) -> Record:
        answer = in_messages(fields[side])
        made = _answered_record(fields, used, system_messages(system), before, answer)
        if isinstance(fields.get(question), Mapping) and "tools" in fields[question]:
            made = {**made, "tools": fields[question]["tools"]}
        return with_tools(made)

    rejected = None if equal else answered(pair[1])
    return Converted(answered(pair[0]), CHOSEN_SIDE, names, rejected=rejected)


def _before_choice(fields: Fields) -> tuple[list[Any], str]:
    """The messages before the chosen answer, and the key they come from."""
    for key in _CONVERSATIONS:
        turns = rows_of_turns(listed(fields.get(key)))
        if isinstance(turns, list):
            return turns, key
    key = next((each for each in _QUESTIONS if each in fields), "")
    asked = in_messages(fields[key]) if key else None
    if isinstance(asked, Mapping) and isinstance(asked.get("messages"), list):
        return list(asked["messages"]), key
    if key == "instruction":
        asked = joined(asked, context_text(fields.get("input")))
    return [*history_messages(listed(fields.get("history"))), *asked_messages(asked)], key


def _answered_record(
    fields: Record, used: tuple[str, ...], system: list[Record], before: list[Any], chosen: Any
) -> Record:
    if isinstance(chosen, list) and not chosen:
        return replace(fields, used, messages=[])
    if isinstance(chosen, list | Mapping):
        turns = _continued(messages_of(before), messages_of(answer_messages(chosen)))
        begins = bool(turns) and role_of(turns[0]) == "system"
        return replace(fields, used, messages=turns if begins else [*system, *turns])
    if not before:
        transcript = _transcript(chosen)
        made = {"messages": transcript} if transcript else {"text": chosen}
        return replace(fields, used, **made)
    lone = before[0] if len(before) == 1 and not system else None
    if isinstance(lone, Mapping) and lone.keys() == {"role", "content"} and lone["role"] == "user":
        return replace(fields, used, prompt=lone["content"], completion=chosen)
    begins = role_of(before[0]) == "system"
    messages = messages_of([*([] if begins else system), *before, assistant_message(chosen)])
    return replace(fields, used, messages=messages)


def _continued(before: list[Any], answer: list[Any]) -> list[Any]:
    """The conversation up to the chosen answer, which may repeat what comes before it."""
    systems = before[:1] if before and role_of(before[0]) == "system" else []
    asked = _contents(before[len(systems) :])
    rest = answer[1:] if answer and role_of(answer[0]) == "system" else answer
    if asked and _contents(rest[: len(asked)]) == asked:
        return answer if rest is not answer else [*systems, *answer]
    return [*before, *answer]


def _contents(messages: list[Any]) -> list[Any]:
    return [each.get("content") if isinstance(each, Mapping) else each for each in messages]


def _transcript(text: object) -> list[Record]:
    """A conversation written as one text, with ``Human:`` or ``Assistant:`` before each turn."""
    if not isinstance(text, str):
        return []
    before, *pieces = _SPEAKER_MARK.split(text)
    if before.strip():
        return []
    roles = {"Human": "user", "Assistant": "assistant"}
    return [
        {"role": roles[speaker], "content": text}
        for speaker, text in zip(pieces[::2], pieces[1::2], strict=True)
    ]
