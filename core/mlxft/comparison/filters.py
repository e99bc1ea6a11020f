"""Which rows a filter keeps: ``validation_loss < 1.2 and model ~ qwen and tag:good``."""

from __future__ import annotations

import operator
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeAlias, get_args

from mlxft import recipe as recipes
from mlxft.comparison.columns import COLUMNS, Column, find_column
from mlxft.comparison.table import RunRow
from mlxft.errors import RecipeError, RunError
from mlxft.runs.view import State

Filter: TypeAlias = "Callable[[RunRow], bool]"

_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<text>"[^"]*"|'[^']*')
    |(?P<sign><=|>=|!=|!~|==|=|<|>|~)
    |(?P<bracket>[()])
    |(?P<word>[^\s()<>=!~"']+))""",
    re.VERBOSE,
)

_COMPARISONS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
}

_BYTES: Final = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_SECONDS: Final = {"": 1, "s": 1, "min": 60, "h": 3600, "d": 86400}

_SEARCHED: Final = tuple(COLUMNS[each] for each in ("name", "run", "model", "data", "notes"))
"""The columns that a text in quotes is searched in, and the tags."""

_DEEPEST: Final = 50
"""Brackets and `not` within each other."""

EXAMPLE: Final = "validation_loss < 1.2 and model ~ qwen and tag:good and not archived"


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int
    """Its first character, counted from 1."""


def parse_filter(text: str, now: float | None = None) -> Filter:
    """The rows that a filter keeps; an empty one keeps all.

    A filter joins conditions by ``and``, ``or``, ``not`` and brackets. A condition compares a
    column (``<`` ``<=`` ``>`` ``>=`` ``=`` ``!=``, and ``~`` for text that contains), names a
    column that is yes or no, is ``tag:NAME``, or a text in quotes to be found in names, model,
    data, notes and tags. A row without the value only meets ``= none`` and what denies it. `now`
    is what ages as ``-2d`` count from.

    Raises `RunError` naming the place.
    """
    tokens = list(_tokens(text))
    if not tokens:
        return lambda row: True
    parser = _Parser(tokens, len(text) + 1, time.time() if now is None else now)
    return parser.whole()


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while text[at:].strip():
        found = _TOKEN.match(text, at)
        if found is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            remedy = "close it" if text[at] in "\"'" else "put it in quotes or leave it out"
            raise _error(text[at], at + 1, f"can't be read; {remedy}.")
        kind = str(found.lastgroup)
        yield _Token(kind, found[kind], found.start(kind) + 1)
        at = found.end()


def _error(what: str, at: int, said: str) -> RunError:
    return RunError(f"Filter, character {at}: {what} {said}")


class _Parser:
    """Recursive descent over a filter's tokens."""

    def __init__(self, tokens: list[_Token], end: int, now: float) -> None:
        self._tokens = tokens
        self._end = _Token("end", "", end)
        self._at = 0
        self._depth = 0
        self._now = now

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at] if self._at < len(self._tokens) else self._end

    def _take(self) -> _Token:
        token = self._next
        self._at += 1
        return token

    def _takes(self, word: str) -> bool:
        """Whether the next token is this word, which is taken then."""
        found = self._next.kind in ("word", "bracket") and self._next.text.lower() == word
        self._at += found
        return found

    def whole(self) -> Filter:
        kept = self._any()
        if (rest := self._next).kind != "end":
            raise _error(
                rest.text,
                rest.at,
                "isn't joined to what is before it; write `and` or `or` before it.",
            )
        return kept

    def _any(self) -> Filter:
        found = [self._all()]
        while self._takes("or"):
            found.append(self._all())
        return found[0] if len(found) == 1 else lambda row: any(each(row) for each in found)

    def _all(self) -> Filter:
        found = [self._not()]
        while self._takes("and"):
            found.append(self._not())
        return found[0] if len(found) == 1 else lambda row: all(each(row) for each in found)

    def _not(self) -> Filter:
        self._depth += 1
        if self._depth > _DEEPEST:
            token = self._next
            raise _error(
                token.text or "the end", token.at, f"is within more than {_DEEPEST} brackets."
            )
        found = self._denied_or_bracket()
        self._depth -= 1
        return found

    def _denied_or_bracket(self) -> Filter:
        if self._takes("not"):
            denied = self._not()
            return lambda row: not denied(row)
        if self._takes("("):
            opened = self._tokens[self._at - 1]
            inner = self._any()
            if not self._takes(")"):
                raise _error("(", opened.at, "isn't closed; add a ).")
            return inner
        return self._condition()

    def _condition(self) -> Filter:
        token = self._take()
        if token.kind == "text":
            return _containing(token.text[1:-1])
        if token.kind != "word" or token.text.lower() in ("and", "or"):
            what = token.text or "the end"
            raise _error(what, token.at, f"is where a condition is missing; write one as {EXAMPLE}")
        if token.text.lower().startswith("tag:"):
            return self._tag(token)
        column = _column(token)
        if self._next.kind != "sign":
            if column.kind == "flag" or (column.parameter and column.parameter.kind == "bool"):
                return lambda row: bool(column.value(row))
            raise _error(
                token.text, token.at, f"is compared with nothing; write {token.text} = VALUE."
            )
        return self._comparison(column, self._take().text)

    def _tag(self, token: _Token) -> Filter:
        name = token.text[4:]
        if not name and self._next.kind == "text":
            name = _unquoted(self._take())
        if not name:
            raise _error(token.text, token.at, "names no tag; write tag:good.")
        return lambda row: name in row.labels.tags

    def _comparison(self, column: Column, sign: str) -> Filter:
        token = self._take()
        wanted = _unquoted(token)
        if token.kind not in ("text", "word"):
            what = token.text or "the end"
            raise _error(what, token.at, f"is where a value for {column.id} is missing.")
        if sign in ("~", "!~"):
            return _matching(column, wanted, denied=sign == "!~")
        if wanted.lower() == "none" and token.kind == "word" and sign in ("=", "==", "!="):
            is_missing = sign != "!="
            return lambda row: (column.value(row) in (None, "", ())) is is_missing
        if column.kind in ("flag", "names") and sign not in ("=", "==", "!="):
            raise _error(sign, token.at, f"can't compare {column.id}; use = or !=.")
        return _comparing(column, sign, _value(column, wanted, token.at, self._now))


def _column(token: _Token) -> Column:
    try:
        return find_column(token.text)
    except RunError as error:
        hint = str(error).partition("; ")[2]
        remedy = hint if hint.startswith("did") else "put text to search in quotes."
        raise _error(token.text, token.at, f"is not a column; {remedy}") from None


def _unquoted(token: _Token) -> str:
    return token.text[1:-1] if token.kind == "text" else token.text


def _containing(text: str) -> Filter:
    text = text.casefold()

    def kept(row: RunRow) -> bool:
        tags = any(text in each.casefold() for each in row.labels.tags)
        return tags or any(text in str(each.value(row)).casefold() for each in _SEARCHED)

    return kept


def _matching(column: Column, text: str, *, denied: bool) -> Filter:
    text = text.casefold()

    def kept(row: RunRow) -> bool:
        value = column.value(row)
        shown = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value or "")
        return (text in shown.casefold()) is not denied

    return kept


def _comparing(column: Column, sign: str, wanted: Any) -> Filter:
    compare, of, denies = _COMPARISONS[sign], column.value, sign == "!="
    if column.kind == "names":
        return lambda row: (wanted in of(row)) is not denies
    if isinstance(wanted, str):
        folded = wanted.casefold()
        return lambda row: _of_text(compare, of(row), folded, denies)

    def kept(row: RunRow) -> bool:
        value = of(row)
        return denies if value is None else compare(value, wanted)

    return kept


def _of_text(compare: Callable[[Any, Any], bool], value: Any, wanted: str, denies: bool) -> bool:
    return denies if value is None else compare(str(value).casefold(), wanted)


# Values


def _value(column: Column, text: str, at: int, now: float) -> Any:
    """A typed value as the column has it. Raises `RunError`."""
    found: bool | float | None
    match column.kind:
        case "text" if column.id == "state":
            if text.lower() not in get_args(State):
                raise _error(text, at, f"is no state; a run is {_either(get_args(State))}.")
            return text
        case "parameter":
            return _parameter_value(column, text, at)
        case "flag":
            found = {"yes": True, "true": True, "no": False, "false": False}.get(text.lower())
            rule = "yes or no"
        case "count" | "loss" | "rate":
            found, rule = _number(text, {"": 1}), "a number"
        case "share":
            found, rule = _number(text, {"": 1, "%": 0.01}), "a number, or a percentage as 20%"
        case "bytes":
            found, rule = _number(text, _BYTES), "a size as 8GB"
        case "duration":
            found, rule = _number(text, _SECONDS), "a time as 90s, 5min, 2h or 3d"
        case "moment":
            found, rule = _moment(text, now), "a date as 2026-01-31, or as -2d for two days ago"
        case _:
            return text
    if found is None:
        raise _error(text, at, f"can't be compared with {column.id}; it must be {rule}.")
    return found


def _parameter_value(column: Column, text: str, at: int) -> Any:
    assert column.parameter is not None
    if column.parameter.kind in ("text", "choice", "mapping"):
        return text
    try:
        return recipes.check(column.parameter, text)
    except RecipeError:
        rule = column.parameter.rule
        raise _error(text, at, f"can't be compared with {column.id}; it must be {rule}.") from None


def _either(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _number(text: str, units: dict[str, Any]) -> float | None:
    found = re.fullmatch(r"([-+]?[\d_.]+(?:e[-+]?\d+)?)\s*([a-z%]*)", text.lower())
    if found is None or found[2] not in units:
        return None
    try:
        return float(found[1]) * float(units[found[2]])
    except ValueError:
        return None


def _moment(text: str, now: float) -> float | None:
    if text.startswith("-"):
        age = _number(text[1:], _SECONDS)
        return None if age is None else now - age
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
