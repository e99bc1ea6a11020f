"""One training step: gradients, their check, and the optimizer's update."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

import mlx.core as mx
import mlx.optimizers as optim
from mlx.utils import tree_map, tree_unflatten

from mlxft.compute import backend
from mlxft.compute.arrays import named_arrays, number
from mlxft.compute.seeds import step_seed
from mlxft.compute.training import operations
from mlxft.compute.training.batches import BatchArrays, TokenizedSplit
from mlxft.compute.training.choices import Choices, remember_kernels
from mlxft.compute.training.dropout import StepKeys
from mlxft.compute.training.embedding_noise import EmbeddingNoise
from mlxft.compute.training.gradient_checkpointing import checkpointed
from mlxft.compute.training.loss import Loss
from mlxft.compute.training.pair_arrays import PairArrays
from mlxft.compute.training.preference_loss import PreferenceLoss, preference_of
from mlxft.data.batch_plan import Batch
from mlxft.runs.events import Preference

_Arrays = dict[str, mx.array]

LITTLE: Final = 0.05
"""The share of a model's bytes that may be trained where each stream has a gradient of its own."""

UPDATED_AT_ONCE: Final = 2**20
"""Bytes of weights or summed gradients that a CPU computes at once, and one array at least."""

_NOISE: Final = mx.array([0x9E3779B9, 0], mx.uint32)
"""Makes of a step's key, which dropout uses, another for noise."""


@dataclass(frozen=True)
class AccumulatedGradients:
    """The weighted sum of gradients not applied yet, by name, and the sum of their weights.

    The first batch's weight is 1; the others' are the sums of their tokens' weights, or their
    pairs, relative to its, `unit`, or 1 each where `unit` is 0.
    """

    total: _Arrays = field(default_factory=dict)
    weight: float = 0.0
    unit: float = 0.0

    def weight_of(self, total_weight: float) -> float:
        """The weight of another batch, given the sum of its tokens' weights, or its pairs."""
        return total_weight / self.unit if self.unit else 1.0


class BatchLoss(NamedTuple):
    """A batch's mean loss, its trained tokens, and the sum of their weights, or its pairs.

    `figures` are those of a `PreferenceLoss`; None with the loss sft.
    """

    loss: float
    tokens: int
    weight: float
    figures: mx.array | None = None


@dataclass(frozen=True)
class StepResult:
    """A batch's mean loss, trained tokens and gradient norm, and what it says of a preference."""

    loss: float
    tokens: int
    gradient_norm: float
    preference: Preference | None = None

    @property
    def is_finite(self) -> bool:
        """Whether the gradient can be used."""
        return math.isfinite(self.loss) and math.isfinite(self.gradient_norm)


class Stepper:
    """Computes gradients of batches and updates the model, perhaps once for several batches.

    Both are compiled once per batch shape. Trained weights keep their type and are cast to `dtype`,
    if given, for the computation: float32 adapters would turn the activations of a bfloat16 model
    into float32, at twice the memory.
    """

    def __init__(
        self,
        model: Any,
        optimizer: optim.Optimizer,
        *,
        seed: int,
        grad_checkpoint: bool,
        loss: Loss | PreferenceLoss,
        dtype: mx.Dtype | None = None,
        max_grad_norm: float = 0.0,
        by_tokens: bool = False,
        noise_alpha: float = 0.0,
        accumulated: AccumulatedGradients | None = None,
        choices: Choices | None = None,
    ) -> None:
        """`by_tokens` weights each accumulated batch by its tokens, like a larger batch, or by its
        pairs; `noise_alpha` is NEFTune's; `choices` are the ways to compute, by default what is
        known of the backend."""
        self._model = model
        self._optimizer = optimizer
        self._seed = seed
        self._grad_checkpoint = grad_checkpoint
        self._max_grad_norm = max_grad_norm
        self._dtype = dtype
        self._loss: Any = loss
        self._choices = choices
        self._new_kernels = choices.kernels if choices else None
        self._dropout = StepKeys(model)
        self._noise = EmbeddingNoise(model, noise_alpha) if noise_alpha else None
        # Dropped values and noise are drawn for the batch as a whole, each stream has a gradient of
        # its own, and how many blocks are recomputed at once would be left to chance.
        is_random = self._dropout.drops or self._noise is not None
        trains_little = _trains_little(model)
        self._deals_rows = not (is_random or grad_checkpoint) and trains_little
        self._casts_together = dtype is not None and trains_little
        self._compiled_gradient = mx.compile(
            self._gradient, inputs=[model.state], outputs=[model.state]
        )
        state = [model.state, optimizer.state]
        self._compiled_update = mx.compile(self._update, inputs=state, outputs=state)
        self._compiled_loss = mx.compile(self._evaluate, inputs=[model.state])
        self._compiled_logps = mx.compile(self._log_probabilities, inputs=[model.state])
        self._by_tokens = by_tokens
        self.accumulated = accumulated or AccumulatedGradients()

    def compile_from_now_on(self) -> None:
        """Join the operations of all further steps, whose kernels have been made."""
        if self._choices is not None:
            self._choices = replace(self._choices, compiled=True)

    def arrays(self, split: TokenizedSplit, batch: Batch) -> Any:
        """A split's batch as the other methods take it."""
        return split.arrays(batch)

    def add_gradient(self, step: int, batch: BatchArrays | PairArrays) -> StepResult:
        """Accumulate the batch's gradient, if it is finite; the weights don't change.

        The step number seeds the dropout, so neither a resume nor any other use of random numbers
        changes a run.
        """
        key = mx.random.key(step_seed(self._seed, step))
        batch = self._with_estimate(batch)
        total_weight, before = number(batch.total_weight), self.accumulated
        if not before.total:
            before = AccumulatedGradients(unit=total_weight if self._by_tokens else 0.0)
        weight = before.weight_of(total_weight)
        layers = self._model.layers
        recomputed = checkpointed(layers) if self._grad_checkpoint else nullcontext()
        with operations.replaced(choices=self._choices), recomputed:
            loss, figures, norm, total = self._compiled_gradient(
                key, batch, before.total, mx.array(weight, mx.float32)
            )
        if backend.kind() == "cpu":
            # All gradients are there then, and each is freed once it is added.
            mx.eval(loss, figures, norm)
        _evaluate(total, loss, figures, norm)
        if self._choices and self._choices.compiled and self._new_kernels:
            remember_kernels(self._new_kernels)
            self._new_kernels = None
        result = StepResult(
            number(loss),
            int(number(batch.target_count)),
            number(norm),
            self.preference_of([figures]),
        )
        if result.is_finite:
            self.accumulated = AccumulatedGradients(total, before.weight + weight, before.unit)
        return result

    def send_weights(self) -> None:
        """Give other ranks what this one has restored; here there are none."""

    def update(self, learning_rate: float) -> None:
        """Apply the weighted mean of the accumulated gradients."""
        self._optimizer.learning_rate = learning_rate
        weight = self.accumulated.weight
        self._compiled_update(
            self.accumulated.total, None if weight == 1 else mx.array(weight, mx.float32)
        )
        # Nothing else holds a gradient now: each is freed once its weight is updated.
        self.accumulated = AccumulatedGradients()
        _evaluate(named_arrays(self._model.trainable_parameters()), self._optimizer.state)

    def loss(self, batch: BatchArrays | PairArrays) -> BatchLoss:
        """The batch's loss without dropout."""
        batch = self._with_estimate(batch)
        loss, figures = self._without_dropout(self._compiled_loss, batch)
        is_preference = isinstance(self._loss, PreferenceLoss)
        return BatchLoss(
            number(loss),
            int(number(batch.target_count)),
            number(batch.total_weight),
            figures if is_preference else None,
        )

    def log_probabilities(self, batch: PairArrays) -> mx.array:
        """(answers,): each answer's log-probability without dropout, summed over its tokens."""
        (logps,) = self._without_dropout(self._compiled_logps, batch)
        return logps

    def preference_of(self, figures: Sequence[mx.array]) -> Preference | None:
        """What the figures of batches say of the preference; None with the loss sft."""
        if not isinstance(self._loss, PreferenceLoss):
            return None
        return preference_of(figures, self._loss.method)

    def _with_estimate(self, batch: Any) -> Any:
        """A batch of labelled answers with KTO's estimate; others as they are."""
        if not isinstance(batch, PairArrays) or batch.mismatched is None:
            return batch
        return batch.with_estimate(self.log_probabilities(batch.mismatched))

    def _without_dropout(self, compute: Any, batch: Any) -> tuple[mx.array, ...]:
        was_training = self._model.training
        self._model.eval()
        try:
            with operations.replaced(choices=self._choices):
                found: tuple[mx.array, ...] = compute(batch)
            mx.eval(found)
        finally:
            self._model.train(was_training)
        return found

    def _gradient(
        self, key: mx.array, batch: Any, total: _Arrays, weight: mx.array
    ) -> tuple[Any, ...]:
        loss, figures, flat, norm = self._of_batch(key, batch)
        return loss, figures, norm, added(flat, total, weight)

    def _of_batch(self, key: mx.array, batch: Any) -> tuple[mx.array, mx.array, _Arrays, mx.array]:
        """The batch's loss and figures, its gradient by name, and the gradient's norm."""
        self._model.train()
        self._dropout.begin(key, batch.place)
        weights = self._model.trainable_parameters()
        streams = backend.row_streams() if self._deals_rows else ()
        with self._noisy(key, batch):
            (loss, figures), gradient = self._loss.with_gradient(
                self._placed, self._cast(weights), batch, streams
            )
        self._model.update(weights)
        return loss, figures, *self._as_weights(named_arrays(gradient), named_arrays(weights))

    def _as_weights(self, gradient: _Arrays, weights: _Arrays) -> tuple[_Arrays, mx.array]:
        """A gradient in its weights' types, and its norm."""
        types = {array.dtype for array in weights.values()}
        if self._casts_together and len(types) == 1 and types != {self._dtype}:
            return _cast_together(gradient, *types)
        flat = {name: array.astype(weights[name].dtype) for name, array in gradient.items()}
        return flat, norm_of(flat)

    def _noisy(
        self, key: mx.array, batch: BatchArrays | PairArrays
    ) -> AbstractContextManager[None]:
        """Embeds with noise, if the recipe wants it."""
        if self._noise is None:
            return nullcontext()
        lengths = batch.record_lengths
        if lengths is None:
            lengths = mx.full(batch.tokens.shape, batch.tokens.shape[1])
        return self._noise.added(mx.bitwise_xor(key, _NOISE), lengths, batch.place)

    def _evaluate(self, batch: Any) -> tuple[mx.array, mx.array]:
        weights = self._model.trainable_parameters()
        loss: tuple[mx.array, mx.array] = self._loss(self._placed(weights), batch)
        self._model.update(weights)
        return loss

    def _log_probabilities(self, batch: PairArrays) -> tuple[mx.array]:
        weights = self._model.trainable_parameters()
        logps = self._loss.log_probabilities(self._placed(weights), batch)
        self._model.update(weights)
        return (logps,)

    def _placed(self, weights: Any) -> Any:
        """The model with these weights, cast to the type to compute in."""
        self._model.update(self._cast(weights))
        return self._model

    def _cast(self, weights: Any) -> Any:
        if self._dtype is None:
            return weights
        return tree_map(lambda array: array.astype(self._dtype), weights)

    def _update(self, total: _Arrays, weight: mx.array | None) -> None:
        mean = total
        if weight is not None:
            mean = {name: (array / weight).astype(array.dtype) for name, array in total.items()}
        if self._max_grad_norm:
            scale = mx.minimum(1.0, self._max_grad_norm / mx.maximum(norm_of(mean), 1e-12))
            mean = {name: array * scale.astype(array.dtype) for name, array in mean.items()}
        self._optimizer.update(self._model, tree_unflatten(list(mean.items())))


def _evaluate(arrays: _Arrays, *others: Any) -> None:
    """Evaluate these, on a CPU the first in turn."""
    if backend.kind() == "cpu":
        for together in _in_turn(list(arrays.values())):
            mx.eval(together)
    mx.eval(arrays, *others)


def _in_turn(arrays: Sequence[mx.array]) -> Iterator[list[mx.array]]:
    """Arrays to be computed at once: some small ones or a large one. MLX would begin with all, and
    hold what each needs meanwhile."""
    together: list[mx.array] = []
    for array in arrays:
        together.append(array)
        if sum(each.nbytes for each in together) >= UPDATED_AT_ONCE:
            yield together
            together = []
    yield together


def _trains_little(model: Any) -> bool:
    """Whether another gradient is small beside the model."""
    trained, every = (
        sum(each.nbytes for each in named_arrays(arrays).values())
        for arrays in (model.trainable_parameters(), model.parameters())
    )
    return trained <= LITTLE * every


def added(flat: _Arrays, total: _Arrays, weight: mx.array) -> _Arrays:
    """The sum of a gradient and those accumulated before it."""
    if not total:
        return flat
    return {
        name: (total[name] + array * weight).astype(array.dtype) for name, array in flat.items()
    }


def norm_of(arrays: _Arrays) -> mx.array:
    """The norm of all these together."""
    squares = [array.astype(mx.float32).square().sum() for array in arrays.values()]
    return mx.sqrt(mx.stack(squares).sum())


def _cast_together(gradient: _Arrays, dtype: mx.Dtype) -> tuple[_Arrays, mx.array]:
    """A gradient in another type, and its norm, in few operations.

    A short step of LoRA is mostly the processor's launching of kernels, of which each matrix had
    three here: its cast, squares and their sum.
    """
    whole = mx.concatenate([array.reshape(-1) for array in gradient.values()]).astype(dtype)
    parts, end = {}, 0
    for name, array in gradient.items():
        start, end = end, end + array.size
        parts[name] = whole[start:end].reshape(array.shape)
    return parts, mx.sqrt(whole.astype(mx.float32).square().sum())
