"""Convert records from other tools' formats into those mlx-lm trains, without losing text.

A record that mlx-lm can train is returned unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from mlxft.data.formats import Fields, detect

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


def converted(fields: Record) -> Converted:
    """The record as mlx-lm trains it; broken parts are kept for the checks to report."""
    found = detect(fields)
    if found is None:
        return next(_foreign(fields), Converted(fields, ""))
    match found.name:
        case "prompt/completion":
            return Converted(_completion(fields), found.name)
        case "messages":
            return _chat(fields, "messages", found.name)
        case "text":
            messages = _chatml(fields["text"])
            if messages:
                return Converted(_replaced(fields, ("text",), messages=messages), "ChatML text")
    return Converted(fields, found.name)


def _foreign(fields: Record) -> Iterator[Converted]:
    """The record converted by each format that recognizes it."""
    for convert in (_preference, _sharegpt, _alpaca, _pair, _in_small_letters):
        made = convert(fields)
        if made is not None:
            yield made


def _in_small_letters(fields: Record) -> Converted | None:
    """A record whose keys are known apart from case and surrounding spaces."""
    small = {key.strip().lower(): value for key, value in fields.items()}
    if small.keys() == fields.keys() or len(small) < len(fields):
        return None
    made = converted(small)
    return made if made.format else None


def _replaced(fields: Fields, used: tuple[str, ...], **made: Any) -> Record:
    """The record with converted fields in place of the used ones."""
    return {**{key: value for key, value in fields.items() if key not in used}, **made}


# Prompts and answers


def _completion(fields: Record) -> Record:
    prompt, completion = fields["prompt"], fields["completion"]
    system = fields.get("system")
    if isinstance(prompt, list) and isinstance(completion, list):
        messages = _messages([*_system(system), *prompt, *completion])
        return _replaced(fields, ("prompt", "completion", "system"), messages=messages)
    if not _has_text(system):
        return fields
    return _exchange(fields, ("prompt", "completion", "system"), prompt, completion, system)


def _exchange(
    fields: Record,
    used: tuple[str, ...],
    prompt: object,
    answer: object,
    system: object = None,
    history: object = None,
) -> Record:
    """A prompt and its answer; a conversation if there are earlier turns."""
    before = [*_system(system), *_history(history)]
    if not before:
        return _replaced(fields, used, prompt=prompt, completion=answer)
    asked = {"role": "user", "content": prompt}
    answered = {"role": "assistant", "content": answer}
    return _replaced(fields, used, messages=[*before, asked, answered])


def _system(text: object) -> list[Record]:
    return [{"role": "system", "content": text}] if _has_text(text) else []


def _history(turns: object) -> Iterator[Record]:
    """Earlier turns, given as pairs of question and answer."""
    for turn in turns if isinstance(turns, list) else ():
        asked, answered = turn if isinstance(turn, list) and len(turn) == 2 else (turn, None)
        yield {"role": "user", "content": asked}
        yield {"role": "assistant", "content": answered}


def _has_text(text: object) -> bool:
    return isinstance(text, str) and bool(text.strip())


_SYSTEMS: Final = ("system", "system_prompt")


def _system_of(fields: Fields) -> tuple[str, object]:
    """The key and text of the record's system prompt."""
    return next(((key, fields[key]) for key in _SYSTEMS if _has_text(fields.get(key))), ("", None))


def _alpaca(fields: Record) -> Converted | None:
    """Instruction, optional input, and output (Stanford Alpaca, Dolly)."""
    answer = next((key for key in ("output", "response") if key in fields), None)
    if "instruction" not in fields or answer is None:
        return None
    given = next((key for key in ("input", "context") if _has_text(fields.get(key))), None)
    prompt = _joined(fields["instruction"], fields[given] if given else None)
    key, system = _system_of(fields)
    used = ("instruction", "input", "context", answer, "history", key)
    history = listed(fields.get("history"))
    made = _exchange(fields, used, prompt, fields[answer], system, history)
    return Converted(made, "Alpaca", {"prompt": "instruction", "completion": answer})


def _joined(question: object, rest: object) -> object:
    """A question followed by its context; a broken question is kept for the checks."""
    if not isinstance(question, str) or not isinstance(rest, str):
        return question
    return f"{question}\n\n{rest}" if question.strip() else rest


_PAIRS: Final = (
    ("question", "answer"),
    ("question", "response"),
    ("query", "response"),
    ("query", "answer"),
    ("problem", "solution"),
    ("input", "output"),
    ("prompt", "response"),
    ("prompt", "answer"),
    ("prompt", "output"),
    ("user", "assistant"),
    ("human", "assistant"),
    ("source", "target"),
)
"""Keys of a question and its answer in well-known datasets."""


def _pair(fields: Record) -> Converted | None:
    found = next((pair for pair in _PAIRS if pair[0] in fields and pair[1] in fields), None)
    if found is None:
        return None
    question, answer = found
    key, system = _system_of(fields)
    prompt = _joined(fields[question], _text_or_none(fields.get("context")))
    used = (question, answer, "context", key)
    made = _exchange(fields, used, prompt, fields[answer], system)
    return Converted(made, "/".join(found), {"prompt": question, "completion": answer})


def _text_or_none(value: object) -> object:
    return value if _has_text(value) else None


# Preferences

_SPEAKER_MARK: Final = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")


def _preference(fields: Record) -> Converted | None:
    """A chosen and a rejected answer; only the chosen one is trained."""
    if "chosen" not in fields or "rejected" not in fields:
        return None
    name, chosen = "preference, chosen side", listed(fields["chosen"])
    question = next((key for key in ("prompt", "question", "instruction") if key in fields), "")
    prompt = listed(fields.get(question))
    key, system = _system_of(fields)
    used = ("chosen", "rejected", question, key)
    original_names = {
        "prompt": question,
        "completion": "chosen",
        "text": "chosen",
        "messages": "chosen",
    }
    if isinstance(chosen, list) and not chosen:
        return Converted(_replaced(fields, used, messages=[]), name, original_names)
    if isinstance(chosen, list | dict):
        turns = chosen if isinstance(chosen, list) else [chosen]
        whole = len(turns) > 1 and _role(turns[0]) in ("system", "user")
        before = [] if whole else prompt if isinstance(prompt, list) else _user(prompt)
        messages = _messages([*_system(system), *before, *turns])
        return Converted(_replaced(fields, used, messages=messages), name, original_names)
    if isinstance(prompt, list):
        answered = {"role": "assistant", "content": chosen}
        messages = _messages([*_system(system), *prompt, answered])
        return Converted(_replaced(fields, used, messages=messages), name, original_names)
    if question:
        return Converted(_exchange(fields, used, prompt, chosen, system), name, original_names)
    spoken = _transcript(chosen)
    made = {"messages": spoken} if spoken else {"text": chosen}
    return Converted(_replaced(fields, used, **made), name, original_names)


def _user(prompt: object) -> list[Record]:
    return [{"role": "user", "content": prompt}] if prompt is not None else []


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


# Conversations

_ROLES: Final = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "developer": "system",
    "observation": "tool",
    "function": "tool",
    "function_response": "tool",
    "function-response": "tool",
    "ipython": "tool",
}
"""Role names of other tools."""

_SPEAKERS: Final = {
    **{name: name for name in ("system", "user", "assistant", "tool")},
    **_ROLES,
    **dict.fromkeys(("customer", "client", "visitor", "question"), "user"),
    **dict.fromkeys(("agent", "operator", "representative", "answer"), "assistant"),
}
"""Role names in conversations whose messages have their own keys."""


def role_of_speaker(name: str) -> str:
    """The role of a speaker in a conversation with its own keys; unknown names are unchanged."""
    return _SPEAKERS.get(name.strip().lower(), name)


CALLS: Final = ("function_call", "function-call", "tool_call")
"""Roles of a turn that is only a tool call."""


def _sharegpt(fields: Record) -> Converted | None:
    """A list of turns with ``from`` and ``value``."""
    key = next((each for each in ("conversations", "conversation") if each in fields), None)
    return _chat(fields, key, "ShareGPT") if key else None


def _chat(fields: Record, key: str, name: str) -> Converted:
    """A conversation with its tools; not copied if mlx-lm takes it as it is."""
    turns, tools = _rows(listed(fields[key])), listed(fields.get("tools"))
    original_names = {"messages": key}
    if not isinstance(turns, list):
        return Converted(_replaced(fields, (key,), messages=turns), name, original_names)
    messages = _messages(turns)
    name = name if not _is_sharegpt(turns) else "ShareGPT"
    before, system = _system_of(fields)
    begins = bool(messages) and _role(messages[0]) == "system"
    if system is not None and not begins:
        messages = [*_system(system), *messages]
    unchanged = key == "messages" and turns is fields[key]
    unchanged = unchanged and all(a is b for a, b in zip(messages, turns, strict=False))
    if unchanged and len(messages) == len(turns) and tools is fields.get("tools"):
        return Converted(fields, name, original_names)
    made = {"messages": messages} | ({"tools": tools} if "tools" in fields else {})
    used = (key, "" if begins else before, "tools")
    return Converted(_replaced(fields, used, **made), name, original_names)


def _rows(turns: object) -> object:
    """A list of turns, from a table that stores each of their fields as a list."""
    if not isinstance(turns, Mapping) or not turns:
        return turns
    fields = list(turns.values())
    if not all(isinstance(each, list) and len(each) == len(fields[0]) for each in fields):
        return turns
    return [dict(zip(turns, row, strict=True)) for row in zip(*fields, strict=True)]


def _is_sharegpt(turns: list[Any]) -> bool:
    return any(isinstance(turn, Mapping) and "from" in turn for turn in turns)


def _messages(turns: list[Any]) -> list[Any]:
    return [_message(turn) for turn in turns]


def _message(turn: Any) -> Any:
    """One turn with the keys and roles of a chat template; the same object if nothing differs."""
    if not isinstance(turn, Mapping):
        return turn
    message = turn
    if "role" not in turn and "from" in turn:
        who = turn["from"]
        role = role_of_speaker(who) if isinstance(who, str) else who
        message = _replaced(turn, ("from", "value"), role=role)
        if "value" in turn:
            message["content"] = turn["value"]
    role = message.get("role")
    if isinstance(role, str):
        if role in CALLS:
            return _with_calls(message)
        if role in _ROLES:
            message = {**message, "role": _ROLES[role]}
    if message.get("function_call"):
        call = {"type": "function", "function": message["function_call"]}
        message = _replaced(message, ("function_call",), tool_calls=[call])
    text = _text_of_parts(message.get("content"))
    return message if text is None else {**message, "content": text}


def _with_calls(message: Fields) -> Record:
    """An assistant's tool calls, which ShareGPT writes as JSON text."""
    content = message.get("content")
    try:
        calls = msgspec.json.decode(content) if isinstance(content, str) else content
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        calls = None
    calls = calls if isinstance(calls, list) else [calls]
    if not all(isinstance(call, Mapping) and "name" in call for call in calls):
        return dict(message)  # the checks report what is wrong with it
    made = [{"type": "function", "function": call} for call in calls]
    return _replaced(message, ("content",), role="assistant", content="", tool_calls=made)


def _text_of_parts(content: object) -> str | None:
    """The text of a content given in parts; None if there are none or some are not text."""
    if not isinstance(content, list) or not content:
        return None
    texts = [part.get("text") if isinstance(part, Mapping) else None for part in content]
    kinds = {part.get("type", "text") for part in content if isinstance(part, Mapping)}
    if kinds != {"text"} or not all(isinstance(text, str) for text in texts):
        return None
    return "".join(text for text in texts if text is not None)


def _role(message: object) -> object:
    return message.get("role") if isinstance(message, Mapping) else None


_TURN: Final = re.compile(
    r"<\|im_start\|>([^\n<]*)\n((?:(?!<\|im_start\|>).)*?)(?:<\|im_end\|>\s*|\Z)", re.DOTALL
)
"""A turn; the last one may lack its end."""


def _chatml(text: object) -> list[Record]:
    """The turns of a ChatML text; none unless it is turns only."""
    if not isinstance(text, str) or "<|im_start|>" not in text[:100]:
        return []
    messages: list[Record] = []
    at = len(text) - len(text.lstrip())
    while at < len(text):
        turn = _TURN.match(text, at)
        if turn is None:
            return []
        messages.append({"role": turn[1].strip(), "content": turn[2]})
        at = turn.end()
    return _messages(messages)


def listed(value: object) -> Any:
    """A list, perhaps written as JSON text, as tables store it; anything else is unchanged."""
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    try:
        found = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return value
    return found if isinstance(found, list) else value
