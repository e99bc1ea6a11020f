"""Convert records from other tools' formats into those mlx-lm trains, without losing text.

A record that mlx-lm can train is returned unchanged.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from mlxft.data.exchanges import (
    CONTEXTS,
    Converted,
    Record,
    answer_messages,
    asked_messages,
    assistant_message,
    context_text,
    exchange,
    history_messages,
    holds_messages,
    in_messages,
    is_message,
    joined,
    replace,
    system_messages,
    system_of,
    with_tools,
)
from mlxft.data.formats import detect
from mlxft.data.messages import is_plain, listed, messages_of, role_of, rows_of_turns
from mlxft.data.preferences import is_preference, preference
from mlxft.data.tool_calls import calls_of


def converted(fields: Record) -> Converted:
    """The record as mlx-lm trains it; broken parts are kept for the checks to report."""
    if len(fields) == 2 and _is_plain_text(fields.get("prompt"), fields.get("completion")):
        return Converted(fields, "prompt/completion", plain=True)
    messages = fields.get("messages") if len(fields) == 1 else None
    if type(messages) is list and all(map(is_plain, messages)):
        return Converted(fields, "messages", plain=True)
    found = detect(fields)
    if is_preference(fields) and (found is None or found.name in ("messages", "text")):
        return preference(fields) or Converted(fields, "")
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
                return Converted(replace(fields, ("text",), messages=messages), "ChatML text")
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
    for convert in (_sharegpt, _alpaca, _pair, _lone_text, _in_small_letters):
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


# Prompts and answers


def _completion(fields: Record) -> Record:
    prompt, completion = in_messages(fields["prompt"]), in_messages(fields["completion"])
    key, system = system_of(fields)
    history = list(history_messages(listed(fields.get("history"))))
    used = ("prompt", "completion", "history", key)
    if isinstance(prompt, list) or isinstance(completion, list) or is_message(completion):
        begins = isinstance(prompt, list) and bool(prompt) and role_of(prompt[0]) == "system"
        before = [] if begins else system_messages(system)
        turns = [*before, *history, *asked_messages(prompt), *answer_messages(completion)]
        fields = replace(fields, used, messages=messages_of(turns))
    elif system is not None or history:
        question = [*system_messages(system), *history, *asked_messages(prompt)]
        fields = replace(fields, used, messages=[*question, assistant_message(completion)])
    return with_tools(fields)


def _alpaca(fields: Record) -> Converted | None:
    """Instruction, optional input, and output (Stanford Alpaca, Dolly)."""
    answer = next((key for key in _ALPACA_ANSWERS if key in fields), None)
    if "instruction" not in fields or answer is None:
        return None
    given = next((key for key in ("input", *CONTEXTS) if context_text(fields.get(key))), None)
    prompt = joined(fields["instruction"], context_text(fields[given]) if given else None)
    key, system = system_of(fields)
    repeats = "text" if _repeats(fields, ("instruction", answer)) else ""
    used = ("instruction", "input", given or "context", answer, "history", key, repeats)
    history = listed(fields.get("history"))
    made = with_tools(exchange(fields, used, prompt, fields[answer], system, history))
    return Converted(made, "Alpaca", {"prompt": "instruction", "completion": answer})


_ALPACA_ANSWERS: Final = ("output", "response", "completion", "answer")


def _repeats(fields: Record, keys: tuple[str, ...]) -> bool:
    """Whether the record's `text` holds the texts of these keys, as Stanford Alpaca's does."""
    text = fields.get("text")
    held = [fields[key] for key in keys]
    return isinstance(text, str) and all(isinstance(each, str) and each in text for each in held)


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
    ("question", "solution"),
    ("input", "target"),
    ("inputs", "targets"),
    ("article", "highlights"),
    ("article", "summary"),
    ("document", "summary"),
    ("dialogue", "summary"),
    ("user", "assistant"),
    ("human", "assistant"),
    ("source", "target"),
    ("text_input", "output"),
    ("input_text", "output_text"),
)
"""Keys of a question and its answer in well-known datasets."""


def _pair(fields: Record) -> Converted | None:
    found = next((pair for pair in _PAIRS if pair[0] in fields and pair[1] in fields), None)
    if found is None:
        return _answered_calls(fields)
    question, answer = found
    names = {"prompt": question, "completion": answer}
    key, system = system_of(fields)
    contexts = [each for each in CONTEXTS if each != question]
    given = next((each for each in contexts if context_text(fields.get(each))), "")
    used = (question, answer, given, key, "history")
    history = listed(fields.get("history"))
    asked, answered = in_messages(fields[question]), in_messages(fields[answer])
    if isinstance(asked, list) or holds_messages(asked) or holds_messages(answered):
        before = [*system_messages(system), *history_messages(history)]
        turns = [*before, *asked_messages(asked), *answer_messages(answered)]
        made = replace(fields, used, messages=messages_of(turns))
    else:
        prompt = joined(fields[question], context_text(fields.get(given)))
        made = exchange(fields, used, prompt, fields[answer], system, history)
    return Converted(with_tools(made), "/".join(found), names)


def _answered_calls(fields: Record) -> Converted | None:
    """A question and the tool calls that answer it, as in xLAM's data."""
    question = next((key for key in ("query", "question") if key in fields), None)
    calls = calls_of(fields.get("answers"))
    if question is None or not isinstance(calls, list) or not all(map(_is_call, calls)):
        return None
    answer = {"role": "assistant", "content": "", "tool_calls": calls}
    turns = [*asked_messages(fields[question]), answer]
    made = with_tools(replace(fields, (question, "answers"), messages=turns))
    return Converted(made, f"{question}/answers", {"messages": question})


def _is_call(call: Any) -> bool:
    return isinstance(call, Mapping) and isinstance(call.get("function"), Mapping)


def _lone_text(fields: Record) -> Converted | None:
    """A text to train whole under another name: ms-swift's, or the Stack's."""
    if fields.keys() == {"response"} or ("content" in fields and "role" not in fields):
        key = next(iter(fields.keys() & {"response", "content"}))
        if isinstance(fields[key], str):
            return Converted(replace(fields, (key,), text=fields[key]), "text", {"text": key})
    return None


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
    if _are_texts(fields.get("data")):  # UltraChat
        return _chat(fields, "data", "list of texts")
    return None


def _are_texts(turns: object) -> bool:
    """Whether turns are texts, which user and assistant say in turns."""
    return isinstance(turns, list) and len(turns) > 1 and all(isinstance(e, str) for e in turns)


def _chat(fields: Record, key: str, name: str) -> Converted:
    """A conversation with its tools; not copied if mlx-lm takes it as it is."""
    turns = rows_of_turns(listed(fields[key]))
    names = {"messages": key}
    if not isinstance(turns, list):
        return Converted(replace(fields, (key,), messages=turns), name, names)
    if _are_texts(turns):  # LIMA
        roles = itertools.cycle(("user", "assistant"))
        turns = [{"role": role, "content": text} for role, text in zip(roles, turns, strict=False)]
    messages = messages_of(turns)
    name = name if not _is_sharegpt(turns) else "ShareGPT"
    before, system = system_of(fields)
    begins = bool(messages) and role_of(messages[0]) == "system"
    if system is not None and not begins:
        messages = [*system_messages(system), *messages]
    unchanged = key == "messages" and turns is fields[key] and len(messages) == len(turns)
    if not (unchanged and all(a is b for a, b in zip(messages, turns, strict=True))):
        fields = replace(fields, (key, "" if begins else before), messages=messages)
    return Converted(with_tools(fields), name, names)


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
