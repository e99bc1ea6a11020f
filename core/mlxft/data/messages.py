"""Messages of other tools' formats, in the form that chat templates expect."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from mlxft.data.formats import Fields
from mlxft.data.tool_calls import calls_of, json_value

Message = dict[str, Any]

_ROLES: Final = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "chatbot": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "bot": "assistant",
    "ai": "assistant",
    "model": "assistant",
    "developer": "system",
    "observation": "tool",
    "function": "tool",
    "function_response": "tool",
    "function-response": "tool",
    "function_result": "tool",
    "tool_response": "tool",
    "tool_result": "tool",
    "tool_output": "tool",
    "tool_results": "tool",
    "ipython": "tool",
}
"""Role names of other tools."""

_KNOWN_ROLES: Final = {
    **{name: name for name in ("system", "user", "assistant", "tool")},
    **_ROLES,
}

_SPEAKERS: Final = {
    **_KNOWN_ROLES,
    **dict.fromkeys(("customer", "client", "visitor", "question"), "user"),
    **dict.fromkeys(("agent", "operator", "representative", "answer"), "assistant"),
}
"""Role names in conversations whose messages have their own keys."""

CALLS: Final = ("function_call", "function-call", "tool_call", "tool_calls")
"""Roles of a turn that is only a tool call."""

_PAIRED_TURN: Final = (("input", "output"), ("human", "assistant"), ("user", "assistant"))
"""Keys of a turn that holds both a question and its answer."""

_REASONING_KEYS: Final = ("reasoning", "thinking", "thought", "thoughts", "reasoning_details")
"""Other names of `reasoning_content`."""

_TEXT_PARTS: Final = ("text", "input_text", "output_text", "refusal")
_TEXT_KEYS: Final = ("text", "value", "refusal")
_REASONING_PARTS: Final = ("thinking", "reasoning")
_CALL_PARTS: Final = ("tool_use", "tool_call", "function_call")


def role_of_speaker(name: str) -> str:
    """The role of a speaker in a conversation with its own keys; unknown names are unchanged."""
    return _SPEAKERS.get(name.strip().lower(), name)


def messages_of(turns: Iterable[Any]) -> list[Any]:
    """Turns as messages; those that are messages already are the same objects."""
    found: list[Any] = []
    for turn in turns:
        if is_plain(turn):
            found.append(turn)
            continue
        for message in _messages(turn):
            if message is not turn and _continues_call(found, message):
                calls = [*(found[-1].get("tool_calls") or ()), *message["tool_calls"]]
                found[-1] = {**found[-1], "tool_calls": calls}
            else:
                found.append(message)
    return found


def is_plain(turn: Any) -> bool:
    """Whether a turn is a message of text already, as most are."""
    return (
        type(turn) is dict
        and len(turn) == 2
        and type(turn.get("content")) is str
        and type(turn.get("role")) is str
        and turn["role"] in _PLAIN_ROLES
    )


_PLAIN_ROLES: Final = frozenset(("system", "user", "assistant", "tool"))


def _continues_call(before: list[Any], message: Any) -> bool:
    """Whether a turn that is only a call belongs to the assistant message before it."""
    last = before[-1] if before else None
    is_call = isinstance(message, Mapping) and message.get("only_call")
    if is_call:
        message.pop("only_call")
    return bool(is_call) and isinstance(last, Mapping) and last.get("role") == "assistant"


def _messages(turn: Any) -> Iterator[Any]:
    """The messages of one turn, mostly one."""
    if not isinstance(turn, Mapping):
        yield turn
        return
    for asked, answered in _PAIRED_TURN:
        if asked in turn and answered in turn and "role" not in turn and "from" not in turn:
            if has_text(turn.get("system")):
                yield {"role": "system", "content": turn["system"]}
            yield {"role": "user", "content": turn[asked]}
            yield {"role": "assistant", "content": turn[answered]}
            return
    message = _with_calls(_with_role(turn))
    content = message.get("content")
    if isinstance(content, list) and content:
        yield from _from_parts(message, content)
    else:
        yield message


def _with_role(turn: Fields) -> Fields:
    """The turn with `role` and `content`, whatever these are called."""
    message = turn
    if "role" not in turn and "from" in turn:
        sender = turn["from"]
        role = role_of_speaker(sender) if isinstance(sender, str) else sender
        message = {**without(turn, "from"), "role": role}
    if "content" not in message:
        key = next((each for each in ("value", "parts") if each in message), None)
        if key is not None:
            message = {**without(message, key), "content": message[key]}
    if any(value is None for value in message.values()):
        # Tables fill in missing keys with null.
        message = {
            key: each for key, each in message.items() if each is not None or key == "content"
        }
    role = message.get("role")
    if isinstance(role, str) and role not in _KNOWN_ROLES and role not in CALLS:
        lowered = role.strip().lower()
        role = lowered if lowered in _KNOWN_ROLES or lowered in CALLS else role
    if isinstance(role, str):
        role = _KNOWN_ROLES.get(role, role)
        if role != message.get("role"):
            message = {**message, "role": role}
    return message


def _with_calls(message: Fields) -> Fields:
    """The message with its calls in `tool_calls`, its reasoning in `reasoning_content`."""
    if message.get("role") in CALLS:
        return _call_turn(message)
    if message.get("function_call"):
        call = message["function_call"]
        message = {**without(message, "function_call"), "tool_calls": calls_of(call)}
    if "tool_calls" in message:
        calls = calls_of(message["tool_calls"])
        if not calls:
            message = without(message, "tool_calls")
        elif calls is not message["tool_calls"]:
            message = {**message, "tool_calls": calls}
        if calls and message.get("content") is None:
            message = {**message, "content": ""}
    if message.get("role") == "assistant":
        return _with_reasoning(message)
    if message.get("role") == "tool" and _is_structured(message.get("content")):
        return {**message, "content": _result_text(message["content"])}
    return message


def _with_reasoning(message: Fields) -> Fields:
    """An answer with its reasoning in `reasoning_content`, and a refusal in its content."""
    if isinstance(message.get("refusal"), str) and not message.get("content"):
        message = {**without(message, "refusal"), "content": message["refusal"]}
    for key in _REASONING_KEYS:
        text = message.get(key)
        if isinstance(text, list):
            texts = [each.get("text") for each in text if isinstance(each, Mapping)]
            text = "\n".join(each for each in texts if isinstance(each, str)) or None
        if isinstance(text, str):
            message = {"reasoning_content": text, **without(message, key)}
    return message


def _is_structured(content: Any) -> bool:
    """Whether the content of a tool's result is an object, a number, or a list of other things."""
    if isinstance(content, list):
        return bool(content) and any(_part(each)[0] == "" for each in content)
    return isinstance(content, Mapping | int | float)


def _call_turn(message: Fields) -> Message:
    """A turn that is only calls, which ShareGPT writes as JSON text."""
    calls = calls_of(message.get("content"))
    calls = calls if isinstance(calls, list) else [calls]
    if not all(isinstance(call, Mapping) and "function" in call for call in calls):
        return dict(message)  # the checks report what is wrong with it
    rest = without(message, "content")
    return {**rest, "role": "assistant", "content": "", "tool_calls": calls, "only_call": True}


def _from_parts(message: Fields, parts: list[Any]) -> Iterator[Fields]:
    """The messages of a content in parts: text, reasoning, calls, and results on their own."""
    texts: list[str] = []
    reasoning: list[str] = []
    calls: list[Any] = []
    results: list[Message] = []
    for part in parts:
        kind, value = _part(part)
        match kind:
            case "text":
                texts.append(value)
            case "reasoning":
                reasoning.append(value)
            case "call":
                calls += value
            case "result":
                results.append(value)
            case _:
                yield message  # the checks report the part
                return
    yield from results
    if not texts and not reasoning and not calls:
        return
    made = {**message, "content": "".join(texts)}
    if reasoning:
        made["reasoning_content"] = "\n".join(reasoning)
    if calls:
        made["tool_calls"] = [*(message.get("tool_calls") or ()), *calls]
    if any(isinstance(part, Mapping) and is_untrained(part) for part in parts):
        made["untrained_parts"] = True
    yield made


def _part(part: Any) -> tuple[str, Any]:
    """What a content part is, and its value; an empty kind if it can't be trained."""
    if not isinstance(part, Mapping):
        return "", None
    kind = part.get("type", "text")
    if kind in _TEXT_PARTS and (found := _first_text(part, _TEXT_KEYS)) is not None:
        return ("reasoning" if part.get("thought") is True else "text"), found
    if isinstance(part.get("reasoningContent"), Mapping):  # Bedrock
        inner = part["reasoningContent"].get("reasoningText", {})
        found = inner.get("text") if isinstance(inner, Mapping) else None
        return ("reasoning", found) if isinstance(found, str) else ("", None)
    if kind in _REASONING_PARTS:
        found = _first_text(part, ("thinking", "reasoning", "text", "value"))
        return ("reasoning", found) if found is not None else ("", None)
    call = _part_call(part, kind)
    if call is not None:
        calls = calls_of(call)
        return ("call", calls) if isinstance(calls, list) else ("", None)
    result = _part_result(part, kind)
    return ("result", result) if result is not None else ("", None)


def _first_text(part: Fields, keys: Iterable[str]) -> str | None:
    return next((part[key] for key in keys if isinstance(part.get(key), str)), None)


def _part_call(part: Fields, kind: Any) -> Any:
    for key in ("toolUse", "functionCall", "function_call"):
        if isinstance(part.get(key), Mapping):
            return part[key]
    if kind in _CALL_PARTS:
        return part.get("value", {key: each for key, each in part.items() if key != "type"})
    return None


def _part_result(part: Fields, kind: Any) -> Message | None:
    for key in ("toolResult", "functionResponse", "function_response"):
        if isinstance(part.get(key), Mapping):
            inner = part[key]
            return {
                "role": "tool",
                "content": _result_text(inner.get("content", inner.get("response"))),
            }
    if kind == "tool_result":
        made: Message = {"role": "tool", "content": _result_text(part.get("content"))}
        if isinstance(part.get("tool_use_id"), str):
            made["tool_call_id"] = part["tool_use_id"]
        return made
    return None


def _result_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    text = text_of_parts(value)
    return msgspec.json.encode(value).decode() if text is None else text


def text_of_parts(content: object) -> str | None:
    """The text of a content given in text parts; None for anything else."""
    if not isinstance(content, list) or not content:
        return None
    parts = [_part(part) for part in content]
    return "".join(text for _, text in parts) if all(kind == "text" for kind, _ in parts) else None


def weight_of(flagged: Fields) -> float:
    """The weight of a message or record in the loss; 1 where it says nothing."""
    return 0.0 if is_untrained(flagged) else float(next(stated_weights(flagged), 1.0))


def stated_weights(flagged: Fields) -> Iterator[float]:
    """The weights that a message or record gives, also as the text that CSV files have."""
    for key in WEIGHTS:
        value = flagged.get(key)
        if isinstance(value, int | float):
            yield value
        elif isinstance(value, str) and _NUMBER.fullmatch(value):
            yield float(value)


_NUMBER: Final = re.compile(r"\s*[+-]?\d*\.?\d+(?:[eE][+-]?\d+)?\s*", re.ASCII)


def is_untrained(flagged: Fields) -> bool:
    """Whether a message or part says that it must not be trained."""
    return (
        any(each == 0 for each in stated_weights(flagged))
        or any(_is(flagged.get(key), truth=False) for key in _TRAIN_FLAGS)
        or any(_is(flagged.get(key), truth=True) for key in _MASK_FLAGS)
    )


def _is(value: object, *, truth: bool) -> bool:
    """Whether a flag has this value, also as the text that CSV files have."""
    return value is truth or (
        isinstance(value, str) and value.strip().lower() == str(truth).lower()
    )


WEIGHTS: Final = ("weight", "loss_weight", "loss_mask")
"""Keys of a message's weight in the loss."""
_TRAIN_FLAGS: Final = ("train", "training", "trainable", "loss")
_MASK_FLAGS: Final = ("masked", "mask")
FLAGS: Final = (*WEIGHTS, *_TRAIN_FLAGS, *_MASK_FLAGS)


def rows_of_turns(turns: object) -> object:
    """A list of turns, from a table that stores each of their fields as a list."""
    if not isinstance(turns, Mapping) or not turns:
        return turns
    fields = list(turns.values())
    if not all(isinstance(each, list) and len(each) == len(fields[0]) for each in fields):
        return turns
    return [dict(zip(turns, row, strict=True)) for row in zip(*fields, strict=True)]


def listed(value: object) -> Any:
    """A list, perhaps written as JSON text, as tables store it; anything else is unchanged."""
    found = json_value(value)
    return found if isinstance(found, list) else value


def has_text(value: object) -> bool:
    """Whether a value is a text that is not blank."""
    return isinstance(value, str) and bool(value.strip())


def role_of(message: object) -> object:
    """A message's role, if it has one."""
    return message.get("role") if isinstance(message, Mapping) else None


def without(fields: Fields, *keys: str) -> Message:
    """The fields without some keys."""
    return {key: value for key, value in fields.items() if key not in keys}
