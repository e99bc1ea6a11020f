"""Formats an evaluation's results."""

from __future__ import annotations

from collections.abc import Iterator

from mlxft.conversation.scores import Case, Evaluation, Interval, Scores
from mlxft.text.printable import printable_line

CASE_WIDTH = 96
"""The maximum width of an answer in the list of changed ones."""


def evaluation_lines(found: Evaluation, cut_remedy: str = "") -> Iterator[str]:
    """The changed answers, then the scores; `cut_remedy` says what to do about cut answers."""
    width = max(len(each.side) for each in found.scores)
    for case in found.changed:
        yield from _case(case, found.scores, width)
        yield ""
    if len(found.scores) > 1 and found.cases:
        yield f"{len(found.changed)} of {len(found.cases)} answers changed"
    if found.unanswered:
        whole = len(found.cases) + found.unanswered
        yield f"cancelled: only {len(found.cases)} of {whole} records were answered"
    if any(found.cut):
        yield f"{_cut(found)}; {cut_remedy}" if cut_remedy else _cut(found)
    yield f"{found.split}: {_records(found)}, {found.tokens} tokens"
    header = f"{'':<{width}}    loss  perplexity  exact match  token F1"
    yield header
    yield from (_row(each, width) for each in found.scores)
    if found.exact_match_gain and found.token_f1_gain:
        yield f"exact match {gain_text(found.exact_match_gain)}"
        yield f"token F1 {gain_text(found.token_f1_gain)}"


def _records(found: Evaluation) -> str:
    """How many records were used, and of how many."""
    if found.of:
        return f"the first {found.records} of {found.of} records"
    return "1 record" if found.records == 1 else f"{found.records} records"


def _cut(found: Evaluation) -> str:
    """How many answers were cut, per model if there are two."""
    answers = f"of {len(found.cases)} {'answer' if len(found.cases) == 1 else 'answers'}"
    if len(found.cut) == 1:
        counts = f"{found.cut[0]} {answers}"
    else:
        models = zip(found.scores, found.cut, strict=True)
        counts = ", ".join([*(f"{each.side} {count or 'none'}" for each, count in models), answers])
    return f"cut at {found.max_tokens} tokens: {counts}"


def gain_text(interval: Interval) -> str:
    """A gain with its interval, in percentage points."""
    mean, low, high = (100 * each for each in (interval.mean, interval.low, interval.high))
    return f"{mean:+.1f} points (95% interval {low:+.1f} to {high:+.1f})"


def percent(value: float | None) -> str:
    """A value from 0 to 1 as a percentage."""
    return "–" if value is None else f"{value:.1%}"


def _row(scores: Scores, width: int) -> str:
    return (
        f"{scores.side:<{width}}  {scores.loss:6.3f}  {scores.perplexity:10.3f}  "
        f"{percent(scores.exact_match):>11}  {percent(scores.token_f1):>8}"
    )


def _case(case: Case, scores: tuple[Scores, ...], width: int) -> Iterator[str]:
    width = max(width, len("expected"))
    yield f"{case.place}: {_short(case.prompt)}"
    yield f"  {'expected':<{width}}  {_short(case.expected)}"
    for each, reply in zip(scores, case.replies, strict=True):
        sign = "✓" if reply.exact else "✗"
        yield f"  {each.side:<{width}}  {sign} {_short(reply.text)}"


def _short(text: str) -> str:
    line = printable_line(text.strip().replace("\n", " ⏎ "))
    return line if len(line) <= CASE_WIDTH else line[: CASE_WIDTH - 1] + "…"
