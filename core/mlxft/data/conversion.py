"""Convert records from other tools' formats into those mlx-lm trains, without losing text.

A record that mlx-lm can train is returned unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from mlxft.data.formats import Fields, detect
from mlxft.data.messages import (
    has_text,
    is_plain,
    listed,
    messages_of,
    role_of,
    rows_of_turns,
    text_of_parts,
    without,
)
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


def converted(fields: Record) -> Converted:
    """The record as mlx-lm trains it; broken parts are kept for the checks to report."""
    if len(fields) == 2 and _is_plain_text(fields.get("prompt"), fields.get("completion")):
        return Converted(fields, "prompt/completion", plain=True)
    messages = fields.get("messages") if len(fields) == 1 else None
    if type(messages) is list and all(map(is_plain, messages)):
        return Converted(fields, "messages", plain=True)
    found = detect(fields)
    if _is_preference(fields) and (found is None or found.name in ("messages", "text")):
        return _preference(fields) or Converted(fields, "")
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
                return Converted(_replace(fields, ("text",), messages=messages), "ChatML text")
            # Stanford Alpaca repeats its columns in `text`, with the Alpaca prompt.
            return _alpaca(fields) or Converted(fields, found.name)
    return Converted(fields, found.name)


def _is_plain_text(prompt: object, completion: object) -> bool:
    """Whether a prompt and a completion are texts, and not JSON text of messages."""
    return (
        type(prompt) is str
        and type(completion) is str
        and not prompt.lstrip().startswith("[")
        and not completion.lstrip().startswith("[")
    )


def _foreign(fields: Record) -> Iterator[Converted]:
    """The record converted by each format that recognizes it."""
    for convert in (_sharegpt, _alpaca, _pair, _in_small_letters):
        result = convert(fields)
        if result is not None:
            yield result


def _in_small_letters(fields: Record) -> Converted | None:
    """A record whose keys are known apart from case and surrounding spaces."""
    small = {key.strip().lower(): value for key, value in fields.items()}
    if small.keys() == fields.keys() or len(small) < len(fields):
        return None
    result = converted(small)
    return result if result.format else None


def _replace(fields: Fields, used: tuple[str, ...], **made: Any) -> Record:
    """The record with converted fields in place of the used ones."""
    return {**without(fields, *used), **made}


_TOOL_KEYS: Final = ("tools", "functions")


def _with_tools(result: Record) -> Record:
    """The record with its tools under `tools`, taken from its system message if need be."""
    key = next((each for each in _TOOL_KEYS if result.get(each) is not None), None)
    if key is not None:
        tools = tools_of(result[key])
        if key != "tools" or tools is not result[key]:
            result = without(result, *_TOOL_KEYS)
            return {**result, "tools": tools} if tools is not None else result
        return result
    messages = result.get("messages")
    first = messages[0] if isinstance(messages, list) and messages else None
    if role_of(first) == "system" and isinstance(first, Mapping) and first.get("tools"):
        return {
            **result,
            "messages": [without(first, "tools"), *result["messages"][1:]],
            "tools": tools_of(first["tools"]),
        }
    return result


# Prompts and answers


def _completion(fields: Record) -> Record:
    prompt, completion = listed(fields["prompt"]), listed(fields["completion"])
    key, system = _system_of(fields)
    history = list(_history(listed(fields.get("history"))))
    used = ("prompt", "completion", "history", key)
    if isinstance(prompt, list) or isinstance(completion, list) or _is_message(completion):
        begins = isinstance(prompt, list) and bool(prompt) and role_of(prompt[0]) == "system"
        before = [] if begins else _system(system)
        turns = [*before, *history, *_asked(prompt), *_answered(completion)]
        fields = _replace(fields, used, messages=messages_of(turns))
    elif system is not None or history:
        turns = [*_system(system), *history, *_asked(prompt), _assistant(completion)]
        fields = _replace(fields, used, messages=turns)
    return _with_tools(fields)


def _is_message(value: object) -> bool:
    return isinstance(value, Mapping) and not {"role", "from", "messages"}.isdisjoint(value)


def _asked(prompt: object) -> list[Any]:
    """A prompt as messages: it may be a list of them, one message, or text."""
    if isinstance(prompt, list):
        return prompt
    if isinstance(prompt, Mapping) and _is_message(prompt):
        return [prompt]
    return [] if prompt is None else [{"role": "user", "content": prompt}]


def _answered(completion: object) -> list[Any]:
    """An answer as messages: it may be a list of them, one message, or text."""
    if isinstance(completion, Mapping) and isinstance(completion.get("messages"), list):
        return list(completion["messages"])
    if isinstance(completion, Mapping):
        return [completion]
    return completion if isinstance(completion, list) else [_assistant(completion)]


def _assistant(text: object) -> Record:
    return {"role": "assistant", "content": text}


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
        return _replace(fields, used, prompt=prompt, completion=answer)
    question = {"role": "user", "content": prompt}
    return _replace(fields, used, messages=[*before, question, _assistant(answer)])


def _system(text: object) -> list[Record]:
    text = text_of_parts(text) if isinstance(text, list) else text
    return [{"role": "system", "content": text}] if has_text(text) else []


def _history(turns: object) -> Iterator[Any]:
    """Earlier turns, given as pairs of question and answer, or as messages."""
    for turn in turns if isinstance(turns, list) else ():
        if isinstance(turn, Mapping):
            yield from messages_of([turn])
            continue
        asked, answered = turn if isinstance(turn, list) and len(turn) == 2 else (turn, None)
        yield {"role": "user", "content": asked}
        yield _assistant(answered)


_SYSTEMS: Final = ("system", "system_prompt", "systemInstruction", "system_instruction")


def _system_of(fields: Fields) -> tuple[str, object]:
    """The key and text of the record's system prompt."""
    for key in _SYSTEMS:
        value = fields.get(key)
        if isinstance(value, Mapping):
            value = value.get("parts")
        if _system(value):
            return key, _system(value)[0]["content"]
    return "", None


def _alpaca(fields: Record) -> Converted | None:
    """Instruction, optional input, and output (Stanford Alpaca, Dolly)."""
    answer = next((key for key in ("output", "response") if key in fields), None)
    if "instruction" not in fields or answer is None:
        return None
    given = next((key for key in ("input", *_CONTEXTS) if _context_text(fields.get(key))), None)
    prompt = _joined(fields["instruction"], _context_text(fields[given]) if given else None)
    key, system = _system_of(fields)
    used = ("instruction", "input", given or "context", answer, "history", key, "text")
    history = listed(fields.get("history"))
    made = _with_tools(_exchange(fields, used, prompt, fields[answer], system, history))
    return Converted(made, "Alpaca", {"prompt": "instruction", "completion": answer})


_CONTEXTS: Final = ("context", "article", "passage", "document")
"""Keys of a text that the question is about."""


def _context_text(value: object) -> str | None:
    """A context as one text; it may be a list of passages."""
    value = listed(value)
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        value = "\n\n".join(value)
    return value if isinstance(value, str) and value.strip() else None


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
    names = {"prompt": question, "completion": answer}
    key, system = _system_of(fields)
    given = next((each for each in _CONTEXTS if _context_text(fields.get(each))), "")
    used = (question, answer, given, key, "history")
    history = listed(fields.get("history"))
    asked = listed(fields[question])
    if isinstance(asked, list):
        turns = [*_system(system), *_history(history), *asked, *_answered(fields[answer])]
        made = _replace(fields, used, messages=messages_of(turns))
    else:
        prompt = _joined(fields[question], _context_text(fields.get(given)))
        made = _exchange(fields, used, prompt, fields[answer], system, history)
    return Converted(_with_tools(made), "/".join(found), names)


# Preferences

_PREFERENCES: Final = (
    ("chosen", "rejected"),
    ("chosen_response", "rejected_response"),
    ("chosen_messages", "rejected_messages"),
    ("preferred_output", "non_preferred_output"),
    ("response_j", "response_k"),  # StackExchange pairs; j is the better one.
)
_SPEAKER_MARK: Final = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")
_CONVERSATIONS: Final = ("messages", "conversations", "conversation")
_QUESTIONS: Final = ("prompt", "question", "instruction", "query", "input")


def _preferred(fields: Fields) -> tuple[str, str] | None:
    return next((pair for pair in _PREFERENCES if pair[0] in fields and pair[1] in fields), None)


def _is_preference(fields: Fields) -> bool:
    return _preferred(fields) is not None


def _preference(fields: Record) -> Converted:
    """A chosen and a rejected answer; only the chosen one is trained."""
    pair = _preferred(fields)
    assert pair is not None
    chosen = listed(fields[pair[0]])
    before, question = _before_choice(fields)
    key, system = _system_of(fields)
    used = (*pair, question, key, "history", *(("input",) if question == "instruction" else ()))
    names = dict.fromkeys(("completion", "text", "messages"), pair[0])
    names["prompt"] = question
    made = _chosen_record(fields, used, _system(system), before, chosen)
    if isinstance(fields.get(question), Mapping) and "tools" in fields[question]:
        made = {**made, "tools": fields[question]["tools"]}
    return Converted(_with_tools(made), "preference, chosen side", names)


def _before_choice(fields: Fields) -> tuple[list[Any], str]:
    """The messages before the chosen answer, and the key they come from."""
    for key in _CONVERSATIONS:
        turns = rows_of_turns(listed(fields.get(key)))
        if isinstance(turns, list):
            return turns, key
    key = next((each for each in _QUESTIONS if each in fields), "")
    asked = json_value(fields[key]) if key else None
    if isinstance(asked, Mapping) and isinstance(asked.get("messages"), list):
        return list(asked["messages"]), key
    if not isinstance(asked, list | Mapping):
        asked = fields[key] if key else None
    if key == "instruction":
        asked = _joined(asked, _context_text(fields.get("input")))
    return [*_history(listed(fields.get("history"))), *_asked(asked)], key


def _chosen_record(
    fields: Record, used: tuple[str, ...], system: list[Record], before: list[Any], chosen: Any
) -> Record:
    if isinstance(chosen, list) and not chosen:
        return _replace(fields, used, messages=[])
    if isinstance(chosen, list | Mapping):
        answer = _answered(chosen)
        whole = len(answer) > 1 and role_of(messages_of(answer[:1])[0]) in ("system", "user")
        turns = answer if whole else [*before, *answer]
        begins = bool(turns) and role_of(messages_of(turns[:1])[0]) == "system"
        messages = messages_of([*([] if begins else system), *turns])
        return _replace(fields, used, messages=messages)
    if not before:
        transcript = _transcript(chosen)
        made = {"messages": transcript} if transcript else {"text": chosen}
        return _replace(fields, used, **made)
    lone = before[0] if len(before) == 1 and not system else None
    if isinstance(lone, Mapping) and lone.keys() == {"role", "content"} and lone["role"] == "user":
        return _replace(fields, used, prompt=lone["content"], completion=chosen)
    begins = role_of(before[0]) == "system"
    messages = messages_of([*([] if begins else system), *before, _assistant(chosen)])
    return _replace(fields, used, messages=messages)


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


def _sharegpt(fields: Record) -> Converted | None:
    """A list of turns with ``from`` and ``value``, or Gemini's ``contents``."""
    for key, name in (
        ("conversations", "ShareGPT"),
        ("conversation", "ShareGPT"),
        ("contents", "Gemini"),
    ):
        if key in fields:
            return _chat(fields, key, name)
    return None


def _chat(fields: Record, key: str, name: str) -> Converted:
    """A conversation with its tools; not copied if mlx-lm takes it as it is."""
    turns = rows_of_turns(listed(fields[key]))
    names = {"messages": key}
    if not isinstance(turns, list):
        return Converted(_replace(fields, (key,), messages=turns), name, names)
    messages = messages_of(turns)
    name = name if not _is_sharegpt(turns) else "ShareGPT"
    before, system = _system_of(fields)
    begins = bool(messages) and role_of(messages[0]) == "system"
    if system is not None and not begins:
        messages = [*_system(system), *messages]
    unchanged = key == "messages" and turns is fields[key] and len(messages) == len(turns)
    if not (unchanged and all(a is b for a, b in zip(messages, turns, strict=True))):
        fields = _replace(fields, (key, "" if begins else before), messages=messages)
    return Converted(_with_tools(fields), name, names)


def _is_sharegpt(turns: list[Any]) -> bool:
    return any(isinstance(turn, Mapping) and "from" in turn for turn in turns)


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
    return messages_of(messages)
