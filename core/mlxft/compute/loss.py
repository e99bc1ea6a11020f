"""The loss of a batch: the mean cross entropy over its trained tokens."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn


def mean_loss(model: Any, tokens: mx.array, spans: mx.array) -> tuple[mx.array, mx.array]:
    """The mean loss in nats, and how many tokens it is the mean of.

    `tokens` is (batch, width) and padded at the end; `spans` is (batch, 2): a row's first trained
    token and the end of the row. Padding is never a target.
    """
    logits = model(tokens[:, :-1])
    targets = tokens[:, 1:]
    position = mx.arange(1, tokens.shape[1])
    trained = mx.logical_and(position >= spans[:, 0:1], position < spans[:, 1:])
    losses = nn.losses.cross_entropy(logits, targets) * trained
    count = trained.sum()
    return losses.astype(mx.float32).sum() / count, count
