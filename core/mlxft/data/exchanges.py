"""Parts of records that several formats share: questions, answers, histories, systems, tools."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from mlxft.data.formats import Fields
from mlxft.data.messages import has_text, messages_of, role_of, text_of_parts, without
from mlxft.data.tool_calls import json_value, tools_of

Record = dict[str, Any]

AS_TRAINED: Final[Mapping[str, str]] = MappingProxyType({})


class Converted(NamedTuple):
    """A record in a trained format, and the name of the format it was written in.

    If no format is recognized, the record is unchanged and the name empty. `original_names` maps
    trained fields to their names in the file, where these differ.
    """

    fields: Record
    format: str
    original_names: Mapping[str, str] = AS_TRAINED
    plain: bool = False
    """Whether the record holds nothing but texts that are trained."""
    rejected: Record | None = None
    """The same record with the rejected answer of a preference."""


def replace(fields: Fields, used: tuple[str, ...], **made: Any) -> Record:
    """The record with converted fields in place of the used ones."""
    return {**without(fields, *used), **made}


_TOOL_KEYS: Final = ("tools", "functions")


def with_tools(result: Record) -> Record:
    """The record with its tools under `tools`, taken from its system message if need be."""
    key = next((each for each in _TOOL_KEYS if result.get(each)), None)
    if key is None and isinstance(config := result.get("toolConfig"), Mapping):  # Bedrock
        return with_tools({**without(result, "toolConfig"), "tools": config.get("tools")})
    if key is None:
        return _with_system_tools(without(result, *_TOOL_KEYS) if "tools" in result else result)
    tools = tools_of(result[key])
    if key == "tools" and tools is result[key]:
        return result
    result = without(result, *_TOOL_KEYS)
    return {**result, "tools": tools} if tools is not None else result


def _with_system_tools(result: Record) -> Record:
    """The record with the tools that stand in its system message."""
    messages = result.get("messages")
    first = messages[0] if isinstance(messages, list) and messages else None
    if role_of(first) != "system" or not isinstance(first, Mapping) or not first.get("tools"):
        return result
    tools = tools_of(first["tools"])
    changed = [without(first, "tools"), *result["messages"][1:]]
    return {**result, "messages": changed, **({} if tools is None else {"tools": tools})}


def is_message(value: object) -> bool:
    """Whether a value is a message, or holds some."""
    return isinstance(value, Mapping) and not {"role", "from", "messages"}.isdisjoint(value)


def in_messages(value: object) -> Any:
    """A value with the messages that it holds as JSON text; text that holds none is unchanged."""
    found = json_value(value)
    return found if holds_messages(found) else value


def holds_messages(value: object) -> bool:
    """Whether a value is a message or a list of some."""
    if isinstance(value, list):
        return bool(value) and all(map(is_message, value))
    return is_message(value)


def asked_messages(prompt: object) -> list[Any]:
    """A prompt as messages: it may be a list of them, one message, or text."""
    if isinstance(prompt, list):
        return prompt
    if isinstance(prompt, Mapping) and is_message(prompt):
        return [prompt]
    return [] if prompt is None else [{"role": "user", "content": prompt}]


def answer_messages(completion: object) -> list[Any]:
    """An answer as messages: it may be a list of them, one message, or text."""
    if isinstance(completion, Mapping) and isinstance(completion.get("messages"), list):
        return list(completion["messages"])
    if isinstance(completion, Mapping):
        return [completion]
    return completion if isinstance(completion, list) else [assistant_message(completion)]


def assistant_message(text: object) -> Record:
    """An answer of this text."""
    return {"role": "assistant", "content": text}


def exchange(
    fields: Record,
    used: tuple[str, ...],
    prompt: object,
    answer: object,
    system: object = None,
    history: object = None,
) -> Record:
    """A prompt and its answer; a conversation if there are earlier turns."""
    before = [*system_messages(system), *history_messages(history)]
    if not before:
        return replace(fields, used, prompt=prompt, completion=answer)
    question = {"role": "user", "content": prompt}
    return replace(fields, used, messages=[*before, question, assistant_message(answer)])


def system_messages(text: object) -> list[Record]:
    """A system prompt as messages; none if it is blank."""
    text = text_of_parts(text) if isinstance(text, list) else text
    return [{"role": "system", "content": text}] if has_text(text) else []


def history_messages(turns: object) -> Iterator[Any]:
    """Earlier turns, given as pairs of question and answer, or as messages."""
    for turn in turns if isinstance(turns, list) else ():
        if isinstance(turn, Mapping):
            yield from messages_of([turn])
            continue
        asked, answered = turn if isinstance(turn, list) and len(turn) == 2 else (turn, None)
        yield {"role": "user", "content": asked}
        yield assistant_message(answered)


_SYSTEMS: Final = ("system", "system_prompt", "systemInstruction", "system_instruction")


def system_of(fields: Fields) -> tuple[str, object]:
    """The key and text of the record's system prompt."""
    for key in _SYSTEMS:
        value = fields.get(key)
        if isinstance(value, Mapping):
            value = value.get("parts")
        if system_messages(value):
            return key, system_messages(value)[0]["content"]
    return "", None


CONTEXTS: Final = ("context", "article", "passage", "document")
"""Keys of a text that the question is about."""


def context_text(value: object) -> str | None:
    """A context as one text; it may be a list of passages, or an object."""
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        value = "\n\n".join(value)
    elif (value and isinstance(value, list | Mapping)) or type(value) in (int, float):
        value = msgspec.json.encode(value).decode()
    return value if isinstance(value, str) and value.strip() else None


def joined(question: object, rest: object) -> object:
    """A question followed by its context; a broken question is kept for the checks."""
    if not isinstance(question, str) or not isinstance(rest, str):
        return question
    return f"{question}\n\n{rest}" if question.strip() else rest
