"""The validation loss of a model as it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mlx.core as mx

from mlxft.compute.training.step import BatchLoss
from mlxft.data.batch_plan import Batch, BatchPlan


@dataclass(frozen=True)
class Validation:
    """Mean loss in nats over so many trained tokens, and how long it took.

    `figures` are those of the batches, where the loss trains a preference.
    """

    loss: float
    tokens: int
    seconds: float
    figures: tuple[mx.array, ...] = ()


def validation_batches(plan: BatchPlan, limit: int) -> Sequence[Batch]:
    """The batches of a validation: the first `limit`, or all where it is negative."""
    if limit == 0 or not plan.trainable:
        return ()
    batches = plan.epoch(0)
    return batches if limit < 0 else batches[:limit]


def validate(
    batches: Sequence[Batch],
    loss_of: Callable[[Batch], BatchLoss],
    may_continue: Callable[[int], bool],
) -> Validation | None:
    """The weighted mean loss over all tokens or pairs of the batches; None if cancelled.

    `may_continue` is called before each batch with the number done; its time doesn't count.
    """
    found: list[BatchLoss] = []
    seconds = 0.0
    for done, batch in enumerate(batches):
        if not may_continue(done):
            return None
        started = time.perf_counter()
        found.append(loss_of(batch))
        seconds += time.perf_counter() - started
    total = 0.0
    for each in found:
        total += each.loss * each.weight
    return Validation(
        total / sum(each.weight for each in found),
        sum(each.tokens for each in found),
        seconds,
        tuple(each.figures for each in found if each.figures is not None),
    )
