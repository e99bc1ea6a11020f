"""The thoughts of answers: in records, in rendered text, and between the tags of models; pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

Message = dict[str, Any]
Tags = tuple[str, str]

THINK: Final[Tags] = ("<think>", "</think>")

TAGS: Final[tuple[Tags, ...]] = (
    THINK,
    ("<seed:think>", "</seed:think>"),
    ("<mm:think>", "</mm:think>"),
    ("<think:opensource>", "</think:opensource>"),
    ("<longcat_think>", "</longcat_think>"),
    ("<|think:start|>", "<|think:end|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("[THINK]", "[/THINK]"),
    ("<|channel>thought", "<channel|>"),
    ("<|open|>think<|sep|>", "<|close|>think<|sep|>"),
    ("<|channel|>analysis<|message|>", "<|end|>"),
    ("<|think|>", "<|end|>"),
)
"""Between which models think; the last two are messages of their own."""

_EMPTY: Final = re.compile(
    "|".join(rf"{re.escape(start)}\s*{re.escape(end)}" for start, end in TAGS)
)
_BETWEEN: Final = re.compile(
    "|".join(f"{re.escape(start)}.*?{re.escape(end)}" for start, end in TAGS), re.DOTALL
)


def apart(message: Message) -> Message:
    """An answer whose thoughts stand at its beginning, with them in `reasoning_content` instead."""
    content = message.get("content")
    if message.get("reasoning_content") or not isinstance(content, str):
        return message
    start, end = THINK
    before, tag, answer = content.partition(end)
    opened = before.lstrip().startswith(start)
    if message["role"] != "assistant" or not tag or (start in before and not opened):
        return message
    thought = before.lstrip().removeprefix(start).strip()
    return {**message, "content": answer.lstrip(), "reasoning_content": thought}


def without(message: Message) -> Message:
    """A message without thoughts."""
    found = apart(message)
    return {key: value for key, value in found.items() if key != "reasoning_content"}


def thought_of(message: Message) -> str:
    """What an answer has thought; empty if nothing."""
    found = apart(message).get("reasoning_content")
    return found.strip() if isinstance(found, str) else ""


def opened(prompt: str) -> Tags | None:
    """The tags of the thought that a prompt begins for the model."""
    return next((tags for tags in TAGS if prompt.rstrip().endswith(tags[0])), None)


def is_closed(prompt: str) -> bool:
    """Whether a prompt has the model answer without a thought."""
    return any(prompt.rstrip().endswith(end) for _, end in TAGS if end != "<|end|>")


def from_open_prompt(text: str, prompt: str, tags: Tags, message: Message) -> str:
    """A conversation as the model continues a prompt that begins a thought.

    Its last answer has the message's thought, or an empty one, which some templates leave out of a
    finished answer.
    """
    thought = thought_of(message)
    inside, after = _parted(_rest(text, prompt), tags, without(message).get("content") or "")
    line = "\n" if prompt.endswith("\n") else ""
    if after is None:
        inside, after = "", f"{line}{line}{inside}"
        inside = line if not thought else inside
    if thought:
        inside = inside.removeprefix(line) if thought in inside else f"{thought}{line}"
    return f"{prompt}{inside}{tags[1]}{after}"


def from_closed_prompt(text: str, prompt: str) -> str:
    """A conversation without thoughts as the model continues a prompt that ends one."""
    return prompt + _rest(text, prompt)


def with_thought(text: str, prompt: str, tags: Tags, message: Message) -> str:
    """A conversation whose template leaves out the thought that its last answer begins with."""
    blank = "\n\n" if tags == THINK else ""
    return f"{prompt}{tags[0]}\n{thought_of(message)}\n{tags[1]}{blank}{_rest(text, prompt)}"


def _rest(text: str, prompt: str) -> str:
    """What a text has after what it shares with a prompt; a tag is shared whole or not at all."""
    pairs = zip(text, prompt, strict=False)
    shared = next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(text), len(prompt)))
    if shared < len(prompt):
        open_tag = max(text.rfind(each, 0, shared) for each in "<[")
        if open_tag > max(text.rfind(each, 0, shared) for each in ">]"):
            shared = open_tag
    return text[shared:]


def _parted(rest: str, tags: Tags, content: str) -> tuple[str, str | None]:
    """A thought and what follows its end; None for the latter if the end is missing."""
    start, end = tags
    at = rest.find(end)
    says = rest.find(content.strip()) if content.strip() else len(rest)
    if at < 0 or 0 <= says < at:
        return rest, None
    return rest[:at].rpartition(start)[2], rest[at + len(end) :]


def begins_without(text: str, prompt: str) -> bool:
    """Whether the answer after a prompt begins with an empty thought of its own."""
    if is_closed(prompt):
        return False
    tags = opened(prompt)
    answer = text[len(prompt) :] if text.startswith(prompt) else _rest(text, prompt)
    return _EMPTY.match(f"{tags[0]}{answer}" if tags else answer.lstrip()) is not None


def places(text: str, messages: Sequence[Message]) -> Iterator[tuple[int, int]]:
    """Where thoughts stand in a rendered text, with their tags and the whitespace after them."""
    for found in _BETWEEN.finditer(text):
        yield found.start(), _after_whitespace(text, found.end())
    at = 0
    for message in messages:
        thought = thought_of(message) if message["role"] == "assistant" else ""
        start = text.find(thought, at) if thought else -1
        if start >= 0:
            at = start + len(thought)
            yield start, at


def _after_whitespace(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at
