"""How good answers are, by figures: what a fine-tune is judged on, base against adapter."""

from __future__ import annotations

import math
import random
import re
import statistics
from collections import Counter
from collections.abc import Sequence

import msgspec

RESAMPLES = 2_000
"""Bootstrap samples of an interval."""

CONFIDENCE = 0.95

_WORD = re.compile(r"\w+|[^\w\s]")


class Interval(msgspec.Struct, frozen=True):
    """A mean difference and the 95 % interval around it."""

    mean: float
    low: float
    high: float


class Reply(msgspec.Struct, frozen=True):
    """One side's answer to a record, and how near it comes to the expected one, of 1."""

    text: str
    exact: bool
    f1: float
    cut: bool = False
    """Whether the longest length ended it."""


class Case(msgspec.Struct, frozen=True):
    """A record's prompt, the answer it expects, and each side's reply."""

    place: str
    prompt: str
    expected: str
    replies: tuple[Reply, ...]

    @property
    def is_changed(self) -> bool:
        """Whether the sides don't say the same."""
        return len({reply.text.strip() for reply in self.replies}) > 1


class Scores(msgspec.Struct, frozen=True):
    """One side on the whole set; loss in nats over the trained tokens, shares of 1."""

    side: str
    loss: float
    exact_match: float | None
    token_f1: float | None

    @property
    def perplexity(self) -> float:
        """The exponential of the loss."""
        return math.exp(min(self.loss, 700.0))


class Evaluation(msgspec.Struct, frozen=True):
    """A split's records answered by one side, or by two of which the last is judged."""

    split: str
    records: int
    tokens: int
    """Tokens that the loss is the mean of."""
    scores: tuple[Scores, ...]
    cases: tuple[Case, ...]
    exact_match_gain: Interval | None = None
    token_f1_gain: Interval | None = None
    of: int | None = None
    """How many records the split has, where only the first were taken."""
    max_tokens: int | None = None
    """The longest that an answer could be."""

    @property
    def cut(self) -> tuple[int, ...]:
        """How many answers of each side were cut at the longest length."""
        return tuple(
            sum(case.replies[side].cut for case in self.cases) for side in range(len(self.scores))
        )

    @property
    def changed(self) -> tuple[Case, ...]:
        """The cases in which the sides answer differently."""
        return tuple(case for case in self.cases if case.is_changed)


def judged(text: str, expected: str, *, cut: bool = False) -> Reply:
    """An answer with its scores."""
    return Reply(text, is_exact(text, expected), token_f1(text, expected), cut)


def is_exact(text: str, expected: str) -> bool:
    """Whether an answer is the expected one, blanks around it aside."""
    return text.strip() == expected.strip()


def token_f1(text: str, expected: str) -> float:
    """The harmonic mean of precision and recall of words and signs, as SQuAD counts them.

    Rajpurkar et al. 2016, without its dropping of articles and punctuation, which an answer of
    code or JSON is made of.
    """
    said, wanted = Counter(_WORD.findall(text)), Counter(_WORD.findall(expected))
    shared = (said & wanted).total()
    if not said or not wanted:
        return float(said == wanted)
    return 2 * shared / (said.total() + wanted.total())


def gain(before: Sequence[float], after: Sequence[float], seed: int = 0) -> Interval:
    """The mean of the paired differences with its percentile bootstrap interval.

    Efron and Tibshirani 1993, chapter 13: whole records are drawn again, so that what makes a
    record hard for both sides counts for neither.
    """
    differences = [late - early for early, late in zip(before, after, strict=True)]
    chance, count = random.Random(seed), len(differences)
    means = sorted(statistics.fmean(chance.choices(differences, k=count)) for _ in range(RESAMPLES))
    edge = round(RESAMPLES * (1 - CONFIDENCE) / 2)
    return Interval(statistics.fmean(differences), means[edge], means[-edge - 1])


def evaluation(
    split: str,
    records: int,
    tokens: int,
    losses: Sequence[tuple[str, float]],
    cases: Sequence[Case],
) -> Evaluation:
    """All figures of a split; `losses` are the sides' names and losses in the replies' order."""
    scores = []
    exact, f1 = _columns(cases, "exact"), _columns(cases, "f1")
    for index, (side, loss) in enumerate(losses):
        answered = bool(cases)
        scores.append(
            Scores(
                side,
                loss,
                statistics.fmean(exact[index]) if answered else None,
                statistics.fmean(f1[index]) if answered else None,
            )
        )
    paired = bool(cases) and len(losses) > 1
    return Evaluation(
        split,
        records,
        tokens,
        tuple(scores),
        tuple(cases),
        gain(exact[0], exact[1]) if paired else None,
        gain(f1[0], f1[1]) if paired else None,
    )


def _columns(cases: Sequence[Case], name: str) -> list[list[float]]:
    """A figure of every case, side by side."""
    rows = [[float(getattr(reply, name)) for reply in case.replies] for case in cases]
    return [list(column) for column in zip(*rows, strict=True)]
