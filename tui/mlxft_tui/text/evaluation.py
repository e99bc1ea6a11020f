"""The outcome of an evaluation as lines of text."""

from __future__ import annotations

from collections.abc import Iterator

from mlxft.conversation.scores import Case, Evaluation, Interval, Scores
from mlxft.text.printable import printable_line

CASE_WIDTH = 96
"""Cells that an answer gets in the list of changed ones."""


def told(found: Evaluation, against_cuts: str = "") -> Iterator[str]:
    """The changed answers as lines of text, then the figures; with a remedy for answers cut."""
    width = max(len(each.side) for each in found.scores)
    for case in found.changed:
        yield from _case(case, found.scores, width)
        yield ""
    if len(found.scores) > 1 and found.cases:
        yield f"{len(found.changed)} of {len(found.cases)} answers changed"
    if any(found.cut):
        yield f"{_cut(found)}; {against_cuts}" if against_cuts else _cut(found)
    yield f"{found.split}: {_records(found)}, {found.tokens} tokens"
    header = f"{'':<{width}}    loss  perplexity  exact match  token F1"
    yield header
    yield from (_row(each, width) for each in found.scores)
    if found.exact_match_gain and found.token_f1_gain:
        yield f"exact match {gained(found.exact_match_gain)}"
        yield f"token F1 {gained(found.token_f1_gain)}"


def _records(found: Evaluation) -> str:
    """How many records were taken, and of how many."""
    if found.of:
        return f"the first {found.records} of {found.of} records"
    return "1 record" if found.records == 1 else f"{found.records} records"


def _cut(found: Evaluation) -> str:
    """How many answers were cut, of each side where there are two."""
    answers = f"of {len(found.cases)} {'answer' if len(found.cases) == 1 else 'answers'}"
    if len(found.cut) == 1:
        counts = f"{found.cut[0]} {answers}"
    else:
        sides = zip(found.scores, found.cut, strict=True)
        counts = ", ".join([*(f"{each.side} {count or 'none'}" for each, count in sides), answers])
    return f"cut at {found.max_tokens} tokens: {counts}"


def gained(interval: Interval) -> str:
    """A gain with its interval, in points of a hundred."""
    mean, low, high = (100 * each for each in (interval.mean, interval.low, interval.high))
    return f"{mean:+.1f} points (95 % interval {low:+.1f} to {high:+.1f})"


def share(value: float | None) -> str:
    """A share of 1 as percent."""
    return "–" if value is None else f"{value:.1%}"


def _row(scores: Scores, width: int) -> str:
    return (
        f"{scores.side:<{width}}  {scores.loss:6.3f}  {scores.perplexity:10.3f}  "
        f"{share(scores.exact_match):>11}  {share(scores.token_f1):>8}"
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
