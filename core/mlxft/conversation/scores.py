"""Scores of answers: exact match, token F1 and their gain from base to adapter."""

from __future__ import annotations

import math
import random
import re
import statistics
from collections import Counter
from collections.abc import Sequence

import msgspec

RESAMPLES = 2_000
"""Bootstrap resamples per interval."""

CONFIDENCE = 0.95

_WORD = re.compile(r"\w+|[^\w\s]")


class Interval(msgspec.Struct, frozen=True):
    """A mean difference with its 95% confidence interval."""

    mean: float
    low: float
    high: float


class ScoredAnswer(msgspec.Struct, frozen=True):
    """A model's answer to a record with its scores, from 0 to 1."""

    text: str
    exact: bool
    f1: float
    cut: bool = False
    """Whether it was cut at the maximum length."""


class Case(msgspec.Struct, frozen=True):
    """A record's prompt and expected answer with each model's answer."""

    place: str
    prompt: str
    expected: str
    replies: tuple[ScoredAnswer, ...]

    @property
    def is_changed(self) -> bool:
        """Whether the models' answers differ."""
        return len({reply.text.strip() for reply in self.replies}) > 1


class Scores(msgspec.Struct, frozen=True):
    """A model's scores on the whole set; loss in nats per trained token, others from 0 to 1."""

    side: str
    """The model's title."""
    loss: float
    exact_match: float | None
    token_f1: float | None

    @property
    def perplexity(self) -> float:
        """The exponential of the loss."""
        return math.exp(min(self.loss, 700.0))


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """One model on a split's records, or a baseline and the model compared with it."""

    split: str
    records: int
    tokens: int
    """Trained tokens the loss is averaged over."""
    scores: tuple[Scores, ...]
    cases: tuple[Case, ...]
    exact_match_gain: Interval | None = None
    token_f1_gain: Interval | None = None
    of: int | None = None
    """The split's number of records if only the first ones were used."""
    max_tokens: int | None = None
    """The maximum length of an answer in tokens."""
    unanswered: int = 0
    """Records without answers, since the evaluation was cancelled."""

    @property
    def cut(self) -> tuple[int, ...]:
        """Per model, the number of answers cut at the maximum length."""
        return tuple(
            sum(case.replies[at].cut for case in self.cases) for at in range(len(self.scores))
        )

    def swapped(self) -> Evaluation:
        """The same of two models in the other order: the gains are the first one's."""
        cases = [msgspec.structs.replace(each, replies=each.replies[::-1]) for each in self.cases]
        return msgspec.structs.replace(
            self,
            scores=self.scores[::-1],
            cases=tuple(cases),
            exact_match_gain=_negative(self.exact_match_gain),
            token_f1_gain=_negative(self.token_f1_gain),
        )

    @property
    def changed(self) -> tuple[Case, ...]:
        """The cases in which the models' answers differ."""
        return tuple(case for case in self.cases if case.is_changed)


def _negative(gained: Interval | None) -> Interval | None:
    return Interval(-gained.mean, -gained.high, -gained.low) if gained is not None else None


def scored(text: str, expected: str, *, cut: bool = False) -> ScoredAnswer:
    """An answer with its scores."""
    return ScoredAnswer(text, is_exact(text, expected), token_f1(text, expected), cut)


def is_exact(text: str, expected: str) -> bool:
    """Whether an answer equals the expected one, ignoring surrounding whitespace."""
    return text.strip() == expected.strip()


def token_f1(text: str, expected: str) -> float:
    """The harmonic mean of precision and recall over words and symbols, as in SQuAD.

    Rajpurkar et al. 2016, but keeping articles and punctuation, which matter in code and JSON.
    """
    found, wanted = Counter(_WORD.findall(text)), Counter(_WORD.findall(expected))
    shared = (found & wanted).total()
    if not found or not wanted:
        return float(found == wanted)
    return 2 * shared / (found.total() + wanted.total())


def gain(before: Sequence[float], after: Sequence[float], seed: int = 0) -> Interval:
    """The mean of the paired differences with its percentile bootstrap interval.

    Efron and Tibshirani 1993, chapter 13. Resampling whole records cancels out how hard each one
    is for both models.
    """
    differences = [late - early for early, late in zip(before, after, strict=True)]
    generator, count = random.Random(seed), len(differences)
    means = sorted(
        statistics.fmean(generator.choices(differences, k=count)) for _ in range(RESAMPLES)
    )
    edge = round(RESAMPLES * (1 - CONFIDENCE) / 2)
    return Interval(statistics.fmean(differences), means[edge], means[-edge - 1])


def evaluation(
    split: str,
    *,
    records: int,
    tokens: int,
    losses: Sequence[tuple[str, float]],
    cases: Sequence[Case],
) -> Evaluation:
    """All scores of a split; `losses` are the models' titles and losses in reply order."""
    scores = []
    exact, f1 = _columns(cases, "exact"), _columns(cases, "f1")
    for index, (title, loss) in enumerate(losses):
        exact_match = statistics.fmean(exact[index]) if cases else None
        scores.append(
            Scores(title, loss, exact_match, statistics.fmean(f1[index]) if cases else None)
        )
    paired = bool(cases) and len(losses) > 1
    return Evaluation(
        split=split,
        records=records,
        tokens=tokens,
        scores=tuple(scores),
        cases=tuple(cases),
        exact_match_gain=gain(exact[0], exact[1]) if paired else None,
        token_f1_gain=gain(f1[0], f1[1]) if paired else None,
    )


def _columns(cases: Sequence[Case], name: str) -> list[list[float]]:
    """A score of every case, one list per model."""
    rows = [[float(getattr(reply, name)) for reply in case.replies] for case in cases]
    return [list(column) for column in zip(*rows, strict=True)]
