"""What evaluations said of a run, kept in its folder."""

from __future__ import annotations

import contextlib
from typing import Final

import msgspec

from mlxft.conversation.scores import Evaluation, Interval, gain
from mlxft.errors import StorageError
from mlxft.runs import lock
from mlxft.runs.directory import RunDirectory
from mlxft.storage.atomic_files import write_atomically
from mlxft.storage.regular_files import read_regular
from mlxft.text import path_json

FILE_NAME: Final = "evaluations.json"

MOST_KEPT: Final = 20


class KeptEvaluation(msgspec.Struct, frozen=True, kw_only=True):
    """An evaluation of a run without its answers; shares from 0 to 1, with 95% intervals."""

    time: float
    split: str
    data: str
    records: int
    tokens: int
    loss: float
    exact_match: Interval | None = None
    token_f1: Interval | None = None
    against: str = ""
    """What it was compared with; empty for nothing."""
    exact_match_gain: Interval | None = None
    token_f1_gain: Interval | None = None
    max_tokens: int | None = None


_decoder = msgspec.json.Decoder(tuple[KeptEvaluation, ...])


def read_evaluations(run: RunDirectory) -> tuple[KeptEvaluation, ...]:
    """A run's evaluations, the latest last; none where the file can't be read."""
    with contextlib.suppress(OSError, ValueError):
        return path_json.decode(read_regular(run.path / FILE_NAME), _decoder)
    return ()


def keep_evaluation(run: RunDirectory, found: Evaluation, *, data: str, now: float) -> None:
    """Add an evaluation whose last model is the run; one of the same kind is replaced.

    Raises `StorageError`.
    """
    kept = summarised(found, data=data, now=now)
    file = run.path / FILE_NAME
    with lock.taken(run.path / f".{FILE_NAME}.lock") as held:
        if held is None:
            raise StorageError(f"{file}: another program holds its lock; evaluate again.")
        others = [each for each in read_evaluations(run) if _kind(each) != _kind(kept)]
        try:
            write_atomically(file, path_json.encode((*others, kept)[-MOST_KEPT:]) + b"\n")
        except OSError as error:
            raise StorageError(
                f"{file}: the evaluation can't be kept ({error.strerror}); check the disk and the "
                "folder's permissions."
            ) from None


def summarised(found: Evaluation, *, data: str, now: float) -> KeptEvaluation:
    """An evaluation of its last model, as it is kept."""
    own = found.scores[-1]
    replies = [case.replies[-1] for case in found.cases]
    return KeptEvaluation(
        time=now,
        split=found.split,
        data=data,
        records=found.records,
        tokens=found.tokens,
        loss=own.loss,
        exact_match=_mean([float(each.exact) for each in replies]),
        token_f1=_mean([each.f1 for each in replies]),
        against=found.scores[0].side if len(found.scores) > 1 else "",
        exact_match_gain=found.exact_match_gain,
        token_f1_gain=found.token_f1_gain,
        max_tokens=found.max_tokens,
    )


def _mean(scores: list[float]) -> Interval | None:
    """The mean of a score over records with its bootstrap interval."""
    return gain([0.0] * len(scores), scores) if scores else None


def _kind(kept: KeptEvaluation) -> tuple[str, str, str]:
    return kept.split, kept.data, kept.against
