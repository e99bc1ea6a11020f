"""Preferences: a chosen and a rejected answer, of which the chosen one is trained."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

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


def _are_scored(completions: object) -> bool:
    """Whether completions have scores to choose by."""
    return (
        isinstance(completions, list)
        and bool(completions)
        and all(
            isinstance(each, Mapping)
            and "completion" in each
            and type(each.get("score")) in (int, float)
            for each in completions
        )
    )


def _preferred(fields: Fields) -> tuple[str, str] | None:
    return next((pair for pair in _PREFERENCES if pair[0] in fields and pair[1] in fields), None)


def is_preference(fields: Fields) -> bool:
    """Whether a record holds a chosen and a rejected answer."""
    return _are_scored(fields.get("completions")) or _preferred(fields) is not None


def preference(fields: Record) -> Converted:
    """A chosen and a rejected answer; only the chosen one is trained."""
    if _are_scored(fields.get("completions")):  # Gemini
        by_score = sorted(fields["completions"], key=lambda each: float(each["score"]))
        worst, best = by_score[0]["completion"], by_score[-1]["completion"]
        fields = replace(fields, ("completions",), chosen=best, rejected=worst)
    pair = _preferred(fields)
    assert pair is not None
    chosen = in_messages(fields[pair[0]])
    before, question = _before_choice(fields)
    key, system = system_of(fields)
    used = (*pair, question, key, "history", *(("input",) if question == "instruction" else ()))
    names = dict.fromkeys(("completion", "text", "messages"), pair[0])
    names["prompt"] = question
    made = _chosen_record(fields, used, system_messages(system), before, chosen)
    if isinstance(fields.get(question), Mapping) and "tools" in fields[question]:
        made = {**made, "tools": fields[question]["tools"]}
    return Converted(with_tools(made), "preference, chosen side", names)


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


def _chosen_record(
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
