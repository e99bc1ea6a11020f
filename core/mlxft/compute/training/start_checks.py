"""What is compared on the model at hand before it is trained.

Models are other people's code. A few random tokens show whether a model answers as it is trained,
whether its loss can be computed in chunks, whether recomputed blocks give the same gradient, and
which adapters get none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import mlx.core as mx
import numpy as np
from mlx.utils import tree_map
from mlx_lm.models.cache import make_prompt_cache

from mlxft.compute.arrays import named_arrays, number
from mlxft.compute.models import adapters
from mlxft.compute.models.embeddings import outside_of_blocks
from mlxft.compute.tokenization import first_line
from mlxft.compute.training import operations, out_of_memory, packing
from mlxft.compute.training.batches import BatchArrays, batch_arrays
from mlxft.compute.training.dropout import StepKeys, without_dropout
from mlxft.compute.training.gradient_checkpointing import checkpointed
from mlxft.compute.training.loss import Loss
from mlxft.compute.training.model_parts import vocabulary
from mlxft.compute.training.trained_head import head_weights
from mlxft.errors import MlxftError, ModelError

_ON_CPU: Final = mx.default_device() == mx.Device(mx.cpu)

_TOLERANCE: Final = {
    mx.float32: 1e-3 if _ON_CPU else 1e-2,
    mx.float16: 2e-2,
    mx.bfloat16: 5e-2 if _ON_CPU else 1e-1,
}
"""How far rounding may move two computations of the same, by the model's least precise type.

A BLAS sums a different number of rows in a different order, and a GPU multiplies float32 with fewer
digits. A missing soft-cap or scale makes a difference of 0.1 and more.
"""

_SHAPE: Final = (2, 17)
"""Rows and tokens of the batch that a model is tested with."""

_NAMED: Final = 3
"""Kinds of adapters that a message names."""

_ADAPTER_ARRAY: Final = re.compile(
    r"(?:.*?\blayers\.(?P<block>\d+)\.)?(?P<layer>.+)\.(?:lora_[ab]|m)(?P<part>(?:\.\d+)?)"
)
"""The name of an adapter's array; a layer of several parts has one of each."""

_NOT_CHUNKED: Final = (
    "The logits of all positions are computed at once because {reason}; lower batch_size or "
    "max_seq_length if memory runs out."
)

_OTHERWISE: Final = (
    "This model computes something else in training than when it answers; judge the run by its "
    "answers, not by its loss."
)

_NOT_RECOMPUTED: Final = (
    "grad_checkpoint is off in this run because this model's blocks give other gradients when they "
    "are recomputed; lower batch_size or max_seq_length if memory runs out."
)


@dataclass(frozen=True, kw_only=True)
class Verified:
    """How a model can be trained: its loss, and whether blocks can be recomputed.

    `warnings` are sentences about what differs from the recipe.
    """

    loss: Loss
    grad_checkpoint: bool
    warnings: tuple[str, ...] = ()


def verified(
    model: Any,
    name: str = "The model",
    *,
    grad_checkpoint: bool = False,
    dtype: mx.Dtype | None = None,
) -> Verified:
    """How to train this model, computing as in a step in `dtype`.

    Raises `ModelError` with the model's `name` if its own code can't train it.
    """
    was_training = model.training
    with own_code(name, model):
        StepKeys(model).begin(mx.random.key(0))
        batch = _probe(vocabulary(model))
        with_cache, is_answered = _answering(model)
    trains_head = bool(head_weights(model))
    plain_way = Loss(chunked=False, with_cache=with_cache, trains_head=trains_head)
    try:
        # A head's dropout draws other masks for chunks: no fault of theirs.
        with operations.replaced(), without_dropout(outside_of_blocks(model)):
            found = _Checks(model, name, dtype, batch).verified(plain_way, grad_checkpoint)
    finally:
        model.train(was_training)
    return found if is_answered else replace(found, warnings=(*found.warnings, _OTHERWISE))


@contextmanager
def own_code(name: str, model: Any) -> Iterator[None]:
    """Where a model's own code runs: raises `ModelError` with the model's name if that fails."""
    try:
        yield
    except MlxftError:
        raise
    except Exception as error:
        if out_of_memory.is_meant_by(error):
            raise
        what = f"{type(error).__name__}: {first_line(error)}"
        raise ModelError(
            f"{name}: mlx-lm's code of this model fails in training ({what}); "
            f"{_remedy(model, str(error))}."
        ) from error


@dataclass(frozen=True)
class _Measured:
    """A batch's loss and the gradients of all trained arrays."""

    loss: mx.array
    gradients: Mapping[str, mx.array]

    @cached_property
    def length(self) -> float:
        """Of all gradients as one vector.

        Compared one by one, an array whose small gradient is the sum of large ones would fail by
        rounding alone.
        """
        return _length(list(self.gradients.values()))

    def difference(self, other: _Measured) -> float:
        """How far the other's loss and gradient are from these, relative to these."""
        pairs = ((each, other.gradients[name]) for name, each in self.gradients.items())
        distance = _length([a.astype(mx.float32) - b.astype(mx.float32) for a, b in pairs])
        return max(_difference(self.loss, other.loss), _relative(distance, self.length))


class _Checks:
    """Computations of one small batch by one model."""

    def __init__(self, model: Any, name: str, dtype: mx.Dtype | None, batch: BatchArrays) -> None:
        self._model, self._name, self._dtype, self._batch = model, name, dtype, batch
        self._tolerance = _TOLERANCE[_least_precise(model)]

    def verified(self, plain_way: Loss, grad_checkpoint: bool) -> Verified:
        """The most economical way to train that gives the plain way's gradients."""
        with own_code(self._name, self._model):
            self._model.train()
            plain = self._measured(plain_way)
        if not plain.length:
            raise ModelError(
                f"{self._name}: mlx-lm's code of this model passes no gradient to what is trained; "
                "choose other lora_parameters.keys or another model."
            )
        chunked_way = replace(plain_way, chunked=True)
        reason = self._refusal(chunked_way, plain)
        loss = plain_way if reason else chunked_way
        # DBRX evaluates in its blocks, before the chunked loss's gradient is there. With the plain
        # loss its blocks can be recomputed, but that takes three times the memory, not less.
        recomputed = grad_checkpoint and self._is_recomputed(loss, plain)
        return Verified(
            loss=loss,
            grad_checkpoint=recomputed,
            warnings=(
                *stuck_adapters(plain.gradients),
                *([_NOT_CHUNKED.format(reason=reason)] if reason else []),
                *([_NOT_RECOMPUTED] if grad_checkpoint and not recomputed else []),
            ),
        )

    def _refusal(self, loss: Loss, plain: _Measured) -> str | None:
        """Why this loss can't be used in place of the plain one; None if it can."""
        try:
            difference = plain.difference(self._measured(loss))
        except Exception as error:  # A model's own code may refuse to be split.
            what = f"{type(error).__name__}: {first_line(error)}"
            return f"it can't be split into body and head ({what})"
        if difference <= self._tolerance:
            return None
        return f"the chunked loss differs from the plain one by {difference:.1g}"

    def _is_recomputed(self, loss: Loss, plain: _Measured) -> bool:
        """Whether checkpointed blocks give the gradient of plain ones."""
        try:
            return plain.difference(self._measured(loss, recomputed=True)) <= self._tolerance
        except Exception:  # A model's own code may refuse to be computed again.
            return False

    def _measured(self, loss: Loss, *, recomputed: bool = False) -> _Measured:
        """A step's loss and gradients.

        A LoRA or DoRA update is zero at its start, and half of its gradients too; the others still
        cover the whole backward pass through the body.
        """
        found = probe_gradients(
            self._model, loss, self._batch, dtype=self._dtype, recomputed=recomputed
        )
        return _Measured(*found)


def probe_gradients(
    model: Any, loss: Loss, batch: BatchArrays, *, dtype: mx.Dtype | None, recomputed: bool
) -> tuple[mx.array, dict[str, mx.array]]:
    """A step's loss and its gradients by name; the model stays as it is."""

    def place(weights: Any) -> Any:
        if dtype is not None:
            weights = tree_map(lambda array: array.astype(dtype), weights)
        model.update(weights)
        return model

    weights = model.trainable_parameters()
    try:
        with checkpointed(model.layers) if recomputed else nullcontext():
            (value, _), gradient = loss.with_gradient(place, weights, batch)
        gradients = named_arrays(gradient)
        mx.eval(value, gradients)
    finally:
        model.update(weights)
    return value, gradients


def _remedy(model: Any, error: str) -> str:
    """What to change: layers whose weights the model's code reads itself can't be adapted."""
    if "LoRA" not in error and "DoRA" not in error:
        return "choose another model"
    adapted = [name.rpartition("layers.")[2].partition(".")[2] for name in _adapted_names(model)]
    inside = [each for each in adapted if re.search(r"(attn|attention)\.", each)]
    keys = ", ".join(list(dict.fromkeys(inside))[:_NAMED]) or "fewer layers"
    return f"set lora_parameters.keys to the attention's layers ({keys}) or choose another model"


def _adapted_names(model: Any) -> list[str]:
    try:
        return [name for name, _ in adapters.adapted(model)]
    except Exception:  # What can't be frozen can't be listed.
        return []


def answers_with_cache(model: Any) -> bool:
    """Whether the model must be trained with caches to be trained as it answers.

    Gemma 3n must: some of its layers read their keys and values from the cache alone.
    """
    return _answering(model)[0]


def _answering(model: Any) -> tuple[bool, bool]:
    """Whether to train with caches, and whether that trains the function that answers."""
    was_training = model.training
    model.eval()
    packing.caches(model, None)
    tolerance = _TOLERANCE[_least_precise(model)]
    try:
        tokens = _probe(vocabulary(model)).tokens[:, :-1]
        with operations.replaced():
            alone = _evaluated(model(tokens))
        try:
            answered = _evaluated(model(tokens, cache=make_prompt_cache(model)))
        except Exception:  # It can't answer then, but it may be trained.
            return False, True
        if _difference(answered, alone) <= tolerance:
            return False, True
        with operations.replaced():
            cached = _evaluated(model(tokens, cache=make_prompt_cache(model)))
        return True, _difference(answered, cached) <= tolerance
    finally:
        model.train(was_training)


def stuck_adapters(gradients: Mapping[str, mx.array]) -> list[str]:
    """A warning if some kinds of adapters get no gradient, in all blocks or in some.

    At its start only the second of an adapter's two matrices has a gradient; experts that are
    modules of their own count as one, since no token may have been sent to some.
    """
    moved: dict[str, dict[str, bool]] = {}
    for name, gradient in gradients.items():
        found = _ADAPTER_ARRAY.fullmatch(name)
        if found is None:
            continue
        kind = re.sub(r"\.\d+\.", ".", found["layer"]) + found["part"]
        blocks = moved.setdefault(kind, {})
        has_gradient = number(mx.abs(gradient).max()) > 0
        blocks[found["block"] or ""] = blocks.get(found["block"] or "", False) or has_gradient
    stuck = {kind: list(blocks.values()).count(False) for kind, blocks in moved.items()}
    named = [
        kind if count == len(moved[kind]) else f"{kind} in {count} of {len(moved[kind])} blocks"
        for kind, count in stuck.items()
        if count == len(moved[kind]) or count > 1
    ]
    if not named:
        return []
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    return [
        f"The adapters of {', '.join(named[:_NAMED])}{more} stay as they are because mlx-lm's code "
        "of this model passes no gradient to them; other lora_parameters.keys save their memory."
    ]


def _probe(vocabulary: int) -> BatchArrays:
    """Rows of random tokens; the first half of the second row is not trained."""
    tokens = np.random.default_rng(0).integers(0, vocabulary, _SHAPE, np.int32)
    trained = np.ones(tokens.shape, np.bool_)
    trained[1, :8] = False
    return batch_arrays(tokens, trained)


def _evaluated(array: mx.array) -> mx.array:
    mx.eval(array)
    return array


def _difference(expected: mx.array, found: mx.array) -> float:
    """The distance of two arrays, relative to the length of the first."""
    expected, found = expected.astype(mx.float32), found.astype(mx.float32)
    return _relative(_length([expected - found]), _length([expected]))


def _length(arrays: list[mx.array]) -> float:
    """Of the vector that all the arrays make up."""
    return math.sqrt(sum(number(each.astype(mx.float32).square().sum()) for each in arrays))


def _relative(distance: float, length: float) -> float:
    return distance / max(length, 1e-6) if math.isfinite(distance) else math.inf


def _least_precise(model: Any) -> mx.Dtype:
    dtypes = {array.dtype for array in named_arrays(model.parameters()).values()}
    return next((each for each in (mx.bfloat16, mx.float16) if each in dtypes), mx.float32)
