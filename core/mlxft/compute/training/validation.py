"""The validation loss of a model as it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlxft.compute.training.step import BatchLoss
from mlxft.data.batch_plan import Batch, BatchPlan


@dataclass(frozen=True)
class Validation:
    """Mean loss in nats over so many trained tokens, and how long it took."""

    loss: float
    tokens: int
    seconds: float


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
    """The weighted mean loss over all trained tokens of the batches; None if cancelled.

    `may_continue` is called before each
    batch with the number done; its time doesn't count.
    """
    total = weight = seconds = 0.0
    tokens = 0
    for done, batch in enumerate(batches):
        if not may_continue(done):
            return None
        started = time.perf_counter()
        found = loss_of(batch)
        seconds += time.perf_counter() - started
        total, weight = total + found.loss * found.weight, weight + found.weight
        tokens += found.tokens
    return Validation(total / weight, tokens, seconds)
