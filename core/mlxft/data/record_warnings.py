"""What valid records lose when they are trained, and which say that they must not be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from mlxft.data.faults import Fault, Problem
from mlxft.data.formats import Fields
from mlxft.data.messages import is_untrained, role_of

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


LIKED: Final = ("label", "kto_tag")
"""Keys of unpaired preference data: true for a good answer, false for a bad one."""

_TRAINED: Final = frozenset(("prompt", "completion", "messages", "text", "tools"))

_FORMAT_NAMES: Final = """
instruction input output response question answer query problem solution prompt completion messages
conversations chosen reasoning thinking thought chain_of_thought cot complex_cot rationale
explanation history
"""
_FORMAT_COLUMNS: Final = frozenset(_FORMAT_NAMES.split())
"""Columns that other formats train; in a `text` record all others are taken for metadata."""

_METADATA_NAMES: Final = """
id uid uuid idx index url uri link source sources origin dataset subset split category categories
topic subject tag tags type task task_type domain language lang license author date time timestamp
created_at updated_at version hash path file filename file_name title name meta metadata level
difficulty score rating model model_name generator annotator prompt_id conversation_id rejected
"""
_METADATA: Final = frozenset(_METADATA_NAMES.split())
"""Columns that describe a record and are never trained."""


def liked(fields: Fields) -> bool | None:
    """Whether a record is labelled as a good or bad answer; None without such a label."""
    if "text" in fields or ("label" not in fields and "kto_tag" not in fields):
        return None  # Beside a text it is its class.
    found = (fields.get(key) for key in LIKED)
    return next((value for value in found if isinstance(value, bool)), None)


def exclusion(fields: Fields) -> Problem | None:
    """Why a converted record must not be trained, if it says so."""
    if liked(fields) is False:
        return _DISLIKED
    messages = fields.get("messages")
    if isinstance(messages, list) and _has_more_keys(messages):
        answers = [each for each in messages if role_of(each) == "assistant"]
        if answers and all(is_untrained(each) for each in answers):
            return _NO_ANSWER
    return None


_DISLIKED: Final = Problem(
    "excluded", "the record is labelled as a bad answer, so it isn't trained", "nothing to do"
)
_NO_ANSWER: Final = Problem(
    "excluded", "all answers of the record are marked as not to be trained", "nothing to do"
)


def record_warnings(fields: Fields) -> Iterator[Problem]:
    """What of a converted record isn't trained though it may be meant to be."""
    if unused := list(_unused_columns(fields)):
        names = ", ".join(unused)
        verb = "isn't" if len(unused) == 1 else "aren't"
        yield Problem(
            "unused column",
            f"the text of {names} {verb} trained",
            "choose columns with c on the Data screen, or remove it if that is intended",
        )
    messages = fields.get("messages")
    if isinstance(messages, list) and _has_more_keys(messages):
        yield from _flag_warnings(messages)


def _has_more_keys(messages: list[Any]) -> bool:
    """Whether a message has more than its role and content, such as a flag."""
    return any(len(each) > 2 for each in messages)


def _unused_columns(fields: Fields) -> Iterator[str]:
    is_text = "text" in fields and "messages" not in fields and "completion" not in fields
    for key, value in fields.items():
        if key in _TRAINED or not isinstance(value, str):
            continue
        name = key.lower()
        if name in _METADATA or (is_text and name not in _FORMAT_COLUMNS):
            continue
        if value.count(" ") >= 2:  # Prose, not an identifier.
            yield key[:40]


def _flag_warnings(messages: list[Any]) -> Iterator[Problem]:
    answers = [each for each in messages if role_of(each) == "assistant"]
    if any(isinstance(each, Mapping) and each.get("untrained_parts") for each in answers):
        yield Problem(
            "untrained turn",
            "parts of an answer are marked as not to be trained, but the whole answer is trained",
            "split the answer into messages of their own",
        )
    flags = [is_untrained(each) for each in answers]
    if True in flags and False in flags[: len(flags) - flags[::-1].index(True)]:
        yield Problem(
            "untrained turn",
            "an answer before one that is marked as not to be trained isn't trained either",
            "write the conversation up to that answer as a record of its own",
        )
