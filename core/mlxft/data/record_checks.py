"""Why a record can't be trained, with the fix for each problem."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

from mlxft.data.exchanges import AS_TRAINED
from mlxft.data.faults import Problem
from mlxft.data.formats import FORMATS, Fields, Format, detect
from mlxft.data.json_lines import shortened, type_name
from mlxft.data.messages import CALLS, stated_weights

ROLES: Final = ("system", "user", "assistant", "tool")

_CHOOSE_COLUMNS: Final = "on the Data screen, or as columns in recipe.yaml"


def problems(fields: Fields, original_names: Mapping[str, str] = AS_TRAINED) -> Iterator[Problem]:
    """What keeps a record from being trained, in terms of the names its fields have in the file."""
    found = detect(fields)
    if found is None:
        yield _unknown_format(fields)
        return
    if found.name == "text" and "role" in fields and "parent_id" in fields:
        yield _SINGLE_MESSAGE  # OpenAssistant's trees
        return
    match found.name:
        case "prompt/completion" | "text":
            for key in found.keys:
                if not is_filled(fields[key]):
                    yield from _text_problems(f"the {original_names.get(key, key)}", fields[key])
        case "messages":
            name = original_names.get("messages", "messages")
            yield from _messages_problems(fields["messages"], name)
    if faulty := _faulty_weight(fields):
        yield _weight_problem("the record", faulty)
    if found.has_prompt and (tools := fields.get("tools")) is not None:
        yield from _tools_problems(tools)
    if len(fields) > len(found.keys) and (
        media := next((key for key in _MEDIA if _is_media(fields.get(key))), None)
    ):
        yield Problem(
            "wrong type",
            f"the record has {media}, but only text can be trained",
            "remove that column to train the text alone, or remove the line",
        )


_MEDIA: Final = ("images", "image", "videos", "video", "audios", "audio")
_MEDIA_FILE: Final = re.compile(
    r"(data|https?):|.*\.(png|jpe?g|gif|webp|bmp|mp4|mov|webm|wav|mp3|flac)"
)


def _is_media(value: object) -> bool:
    """Whether a column holds an image, video or audio clip, or its path."""
    if isinstance(value, str):
        return bool(_MEDIA_FILE.match(value.strip().lower()))
    return isinstance(value, list | dict) and bool(value)


def is_filled_pair(fields: Fields) -> bool:
    """Whether a record of plain texts has a prompt and a completion: then it has no problems."""
    return is_filled(fields.get("prompt")) and is_filled(fields.get("completion"))


def mask_problem(fields: Fields) -> Problem | None:
    """Why the prompt of this record can't be masked, if it can't."""
    found = detect(fields)
    return None if found is None or found.has_prompt else NO_PROMPT


NO_PROMPT: Final = Problem(
    "no prompt",
    "a text record has no answer for train_on to choose",
    "set train_on to everything or write the record as prompt and completion",
)


_SINGLE_MESSAGE: Final = Problem(
    "unknown format",
    "the record is a single message, not a conversation",
    'write the messages of a conversation as {"messages": […]} on one line',
)


def _unknown_format(fields: Fields) -> Problem:
    if "input_ids" in fields:
        remedy = "use the dataset with its texts, which each model tokenizes its own way"
        return Problem("unknown format", "the record is tokenized already", remedy)
    if "content" in fields and "role" in fields:
        return _SINGLE_MESSAGE
    keys = ", ".join(shortened(key) for key in list(fields)[:8]) or "no keys"
    known = "; ".join(" and ".join(each.keys) for each in FORMATS)
    partial = next((each for each in FORMATS if _lacks_one_key(each, fields)), None)
    missing = next((key for key in partial.keys if key not in fields), "") if partial else ""
    if not missing and "instruction" in fields:
        missing = "output"
    if missing:
        return Problem(
            "unknown format", f"the record has no {missing}", "add it or remove the line"
        )
    return Problem(
        "unknown format",
        f"the record has {keys}",
        f"a record needs one of these: {known}; or choose its fields {_CHOOSE_COLUMNS}",
    )


def _lacks_one_key(candidate: Format, fields: Fields) -> bool:
    return len(candidate.keys) > 1 and sum(key not in fields for key in candidate.keys) == 1


_INVISIBLE: Final = " \t\r\n\u200b\u200c\u200d\u2060\ufeff"
"""Whitespace, and zero-width characters that `str.strip` keeps."""


def is_filled(value: object) -> bool:
    """Whether there is anything to read; much cheaper than describing what is wrong."""
    if not isinstance(value, str):
        return False
    return "!" <= value[:1] <= "~" or (bool(value.strip(_INVISIBLE)) and not value.isspace())


def _text_problems(what: str, value: object) -> Iterator[Problem]:
    if not isinstance(value, str):
        quoted = isinstance(value, int | float)
        remedy = "put it in double quotes" if quoted else "write text instead"
        yield Problem("wrong type", f"{what} is {type_name(value)}, not text", remedy)
    elif not is_filled(value):
        yield Problem("empty field", f"{what} is empty", "fill it in or remove the line")


def _tools_problems(tools: object) -> Iterator[Problem]:
    listed = isinstance(tools, list) and all(isinstance(tool, Mapping) for tool in tools)
    if not listed:
        yield Problem(
            "wrong type",
            "tools is not a list of objects",
            "write it as a list of tool descriptions",
        )


def _messages_problems(messages: object, name: str) -> Iterator[Problem]:
    if not isinstance(messages, list):
        yield Problem(
            "wrong type",
            f"{name} is {type_name(messages)}, not a list",
            'write it as a list like [{"role": "user", "content": "…"}, …]',
        )
        return
    if not messages:
        yield Problem("empty field", f"{name} is empty", "fill it in or remove the line")
        return
    valid = True
    for number, message in enumerate(messages, 1):
        for problem in _message_problems(f"message {number}", message):
            valid = False
            yield problem
    if valid:
        yield from _order_problems(messages)


def _faulty_weight(flagged: Fields) -> float | None:
    """A weight that no loss can have."""
    found = stated_weights(flagged)
    faulty = next((each for each in found if not 0 <= each <= sys.float_info.max), None)
    # JSON has whole numbers that are larger than any float.
    return math.inf if isinstance(faulty, int) and faulty > 0 else faulty


def _weight_problem(what: str, weight: float) -> Problem:
    remedy = "write a number of 0 or more, or remove it"
    return Problem("wrong type", f"the weight of {what} is {weight:g}", remedy)


_MESSAGE_KEYS: Final = ("role", "content", "value", "tool_calls", "tool_call_id", "name")


def _message_problems(what: str, message: object) -> Iterator[Problem]:
    if not isinstance(message, Mapping):
        yield Problem(
            "not an object",
            f"{what} is {type_name(message)}, not a message",
            'write it as an object like {"role": "user", "content": "…"}',
        )
        return
    role = message.get("role")
    if isinstance(role, str) and role in CALLS:
        yield Problem("roles", f"{what} names no function to call", _HOW_TO_CALL)
        return
    if role not in ROLES:
        yield _role_problem(what, message)
        return
    if len(message) > 2 and (faulty := _faulty_weight(message)):
        yield _weight_problem(what, faulty)
        return
    content, calls = message.get("content"), message.get("tool_calls")
    if calls and not (isinstance(calls, list) and all(map(_is_call, calls))):
        yield Problem("wrong type", f"the tool_calls of {what} name no function", _HOW_TO_CALL)
        return
    if problem := next(filter(None, map(_arguments_problem, calls or ())), ""):
        yield Problem("wrong type", f"the arguments of a call in {what} are {problem}", _ARGUMENTS)
        return
    if role == "assistant" and calls and not content:
        return
    if "content" not in message:
        choose = f", or choose its key {_CHOOSE_COLUMNS}" if _has_unknown_keys(message) else ""
        remedy = f"add it or remove the line{choose}"
        yield Problem("empty field", f"{what} has no content", remedy)
    elif kind := _unsupported_part(content):
        yield Problem(
            "wrong type",
            f"{what} has a part of type {shortened(kind)}, but only text can be trained",
            "remove that part or the line",
        )
    elif isinstance(content, list) and content and all(isinstance(e, Mapping) for e in content):
        yield Problem("empty field", f"a part of {what} has no text", "remove that part")
    elif role in ("user", "assistant") or not isinstance(content, str):
        yield from _text_problems(f"the content of {what}", content)


def _role_problem(what: str, message: Fields) -> Problem:
    role = message.get("role")
    found = f"the role {shortened(str(role))}" if role else "no role"
    choose = ""
    if isinstance(role, str) and role:
        choose = f", or map this one {_CHOOSE_COLUMNS}"
    elif _has_unknown_keys(message):
        choose = f", or choose the key of the role {_CHOOSE_COLUMNS}"
    return Problem("roles", f"{what} has {found}", f"use one of {', '.join(ROLES)}{choose}")


_HOW_TO_CALL: Final = (
    'write a call like {"type": "function", "function": {"name": "…", "arguments": {…}}}'
)


_ARGUMENTS: Final = 'write them as an object like {"city": "…"}'


def _arguments_problem(call: Mapping[str, Any]) -> str:
    arguments = call.get("function", call).get("arguments", {})
    if isinstance(arguments, Mapping):
        return ""
    is_encoded = isinstance(arguments, str) and arguments.lstrip().startswith('"')
    return "JSON text encoded twice" if is_encoded else f"{type_name(arguments)}, not an object"


def _has_unknown_keys(message: Fields) -> bool:
    """Whether a message has keys that may stand for the missing ones."""
    return any(key not in _MESSAGE_KEYS for key in message)


def _is_call(call: object) -> bool:
    """Whether the call names its function."""
    called = call.get("function", call) if isinstance(call, Mapping) else None
    return isinstance(called, Mapping) and isinstance(called.get("name"), str)


def _unsupported_part(content: object) -> str:
    """The type of the first content part that is not text."""
    parts = content if isinstance(content, list) else ()
    kinds = (_kind_of(part) for part in parts if isinstance(part, Mapping))
    return next((kind for kind in kinds if kind != "text"), "")


def _kind_of(part: Fields) -> str:
    """What a content part is; Gemini's and Bedrock's say it by their key."""
    if "type" in part or "text" in part:
        return str(part.get("type", "text"))
    return next((str(key) for key, value in part.items() if isinstance(value, Mapping)), "text")


def _order_problems(messages: list[dict[str, Any]]) -> Iterator[Problem]:
    """Wrong order that no chat template can fix; the rest is left to the template."""
    roles = [message["role"] for message in messages]
    if "tool" in roles and "assistant" not in roles[: roles.index("tool")]:
        yield Problem(
            "roles",
            "a tool message has no assistant message before it",
            "put it after the assistant's message that calls the tool",
        )
    if roles[-1] != "assistant":
        yield Problem(
            "no answer",
            f"the conversation ends with the {roles[-1]}, so there is no answer to train",
            "end it with an assistant message or remove the line",
        )
