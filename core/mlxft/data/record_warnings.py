"""What valid records lose when they are trained, and which say that they must not be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from mlxft.data.faults import Fault, Problem
from mlxft.data.formats import Fields, conversation, detect
from mlxft.data.messages import FLAGS, is_untrained, role_of

MAX_KINDS: Final = 100
"""Different problems that are kept of a file."""


@dataclass(frozen=True)
class CountedProblem:
    """A problem of valid records: the line of the first, and how many there are."""

    problem: Problem
    line: int
    count: int

    def at(self, file: str) -> Fault:
        """The problem at its first line, with the number of records."""
        more = f" ({self.count} records)" if self.count > 1 else ""
        return replace(self.problem, problem=self.problem.problem + more).at(file, self.line)


class CountedProblems:
    """Collects the problems of a file's records, equal ones as one."""

    def __init__(self) -> None:
        self._found: dict[Problem, list[int]] = {}

    def add(self, line: int, found: Iterable[Problem]) -> None:
        """Add the problems of a record."""
        for problem in found:
            if problem in self._found or len(self._found) < MAX_KINDS:
                self._found.setdefault(problem, [line, 0])[1] += 1

    def found(self) -> tuple[CountedProblem, ...]:
        """All problems, in the order of their first lines."""
        return tuple(CountedProblem(each, *counts) for each, counts in self._found.items())


LIKED_ANSWERS: Final = "preference, liked answers"
"""The format of records with such a label."""

LIKED: Final = ("label", "kto_tag")
"""Keys of unpaired preference data: true for a good answer, false for a bad one."""

_FORMAT_NAMES: Final = """
instruction input output response question answer query problem solution prompt completion messages
conversations chosen reasoning thinking thought chain_of_thought cot complex_cot rationale
explanation choices options history context article passage document system system_prompt
"""
_FORMAT_COLUMNS: Final = frozenset(_FORMAT_NAMES.split())
"""Columns that other formats train; in a `text` record all others are taken for metadata."""

_WHOLE_NAMES: Final = frozenset(("text", "prompt", "formatted", "formatted_text"))
"""Columns that may repeat the whole record as one text."""

_METADATA_NAMES: Final = """
id uid uuid idx index url uri link source sources origin dataset subset split category categories
topic subject tag tags type task task_type domain language lang license author date time timestamp
created_at updated_at version hash path file filename file_name title name meta metadata level
difficulty score rating model model_name generator annotator prompt_id conversation_id
rejected rejected_response rejected_messages
"""
_METADATA: Final = frozenset(_METADATA_NAMES.split())
"""Columns that describe a record and are never trained."""


def liked(fields: Fields) -> bool | None:
    """Whether a record is labelled as a good or bad answer; None without such a label."""
    if "text" in fields or ("label" not in fields and "kto_tag" not in fields):
        return None  # Beside a text it is its class.
    found = (_truth(fields.get(key)) for key in LIKED)
    return next((value for value in found if value is not None), None)


def _truth(value: object) -> bool | None:
    """A label that is true or false, also as the text that CSV files have."""
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().lower())
    return value if isinstance(value, bool) else None


def exclusion(fields: Fields) -> Problem | None:
    """Why a converted record must not be trained, if it says so."""
    if liked(fields) is False:
        return DISLIKED
    if is_untrained(fields):
        return _NO_ANSWER
    messages = fields.get("messages")
    if isinstance(messages, list) and _has_more_keys(messages):
        answers = [each for each in messages if role_of(each) == "assistant"]
        if answers and all(is_untrained(each) for each in answers):
            return _NO_ANSWER
    return None


DISLIKED: Final = Problem(
    "excluded",
    "the record is labelled as a bad answer, which only loss kto trains",
    "nothing to do",
)
_NO_ANSWER: Final = Problem(
    "excluded", "the answers of the record are marked as not to be trained", "nothing to do"
)


_PLACEHOLDER: Final = re.compile(
    r"<(?P<tag>image|video|audio)>|<\|(image|video|audio)(_pad)?\|>|<(start_of_image|image_soft_token)>"
)
"""What stands for an image, video or sound in the texts of records that come with one."""


def may_hold_placeholder(text: str) -> bool:
    """Whether a text needs a closer look."""
    return "<" in text and _PLACEHOLDER.search(text) is not None


def _placeholder_in(text: str) -> str | None:
    """The first placeholder in a text; a pair of tags is XML."""
    found = _PLACEHOLDER.search(text)
    is_xml = found and found["tag"] and f"</{found['tag']}>" in text
    return found[0] if found and not is_xml else None


def placeholder_warnings(fields: Fields) -> Iterator[Problem]:
    """Whether a record's texts mention something that the model is never given."""
    found = next(filter(None, map(_placeholder_in, _trained_texts(fields))), None)
    if found:
        yield Problem(
            "lost",
            f"the text has {found}, but only text is given to the model",
            "remove it if the rest makes sense alone, or else the line",
        )


def record_warnings(fields: Fields) -> Iterator[Problem]:
    """What of a converted record isn't trained though it may be meant to be."""
    yield from placeholder_warnings(fields)
    if unused := list(_unused_columns(fields)):
        names = ", ".join(unused)
        verb = "isn't" if len(unused) == 1 else "aren't"
        yield Problem(
            "unused column",
            f"the text of {names} {verb} trained",
            "choose columns on the Data screen, or remove it if that is intended",
        )
    messages = fields.get("messages")
    if isinstance(messages, list) and _has_more_keys(messages):
        if unused := sorted(set(_unused_message_texts(messages))):
            yield Problem(
                "unused column",
                f"the text of {', '.join(unused)} in messages isn't trained",
                "move it to content or reasoning_content, or remove it if that is intended",
            )
        yield from _flag_warnings(messages)


def _has_more_keys(messages: list[Any]) -> bool:
    """Whether a message has more than its role and content, such as a flag."""
    return any(len(each) > 2 for each in messages)


def _unused_columns(fields: Fields) -> Iterator[str]:
    found = detect(fields)
    used = (*found.keys, "tools") if found else ()
    is_text = found is not None and found.name == "text"
    trained: list[str] | None = None
    for key, value in fields.items():
        text = _longest_text(value)
        if key in used or not text:
            continue
        name = key.lower()
        is_known = name in _FORMAT_COLUMNS
        if name in _METADATA or (is_text and not is_known):
            continue
        if not is_known and text.count(" ") < 2:  # An identifier, not prose.
            continue
        trained = _trained_texts(fields) if trained is None else trained
        if any(text in each for each in trained):
            continue
        if name not in _WHOLE_NAMES or not all(each in text for each in trained):
            yield key[:40]


def _longest_text(value: object) -> str:
    """A column's text, or the longest of a list of them."""
    if isinstance(value, list):
        value = max((each for each in value if isinstance(each, str)), key=len, default="")
    return value.strip() if isinstance(value, str) else ""


def _trained_texts(fields: Fields) -> list[str]:
    """The texts of a converted record that are trained or in a prompt."""
    found = conversation(fields)
    texts = [fields["text"]] if found is None else [each.get("content") for each in found]
    return [each.strip() for each in texts if isinstance(each, str)]


_MESSAGE_KEYS: Final = frozenset(
    ("role", "content", "tool_calls", "tool_call_id", "name", "reasoning_content", *FLAGS)
)
"""Keys of a message that are used or describe it."""


def _unused_message_texts(messages: list[Any]) -> Iterator[str]:
    """Keys of messages whose texts no chat template is given in a known place."""
    for message in messages:
        for key in message.keys() - _MESSAGE_KEYS:
            if key.lower() not in _METADATA and _longest_text(message[key]).count(" ") >= 2:
                yield key[:40]


def _flag_warnings(messages: list[Any]) -> Iterator[Problem]:
    answers = [each for each in messages if role_of(each) == "assistant"]
    if any(
        isinstance(each, Mapping) and (each.get("untrained_parts") or each.get("train_detail"))
        for each in answers
    ):
        yield Problem(
            "untrained turn",
            "parts of an answer are marked as not to be trained, but the whole answer is trained",
            "split the answer into messages of their own",
        )
