"""A step of several ranks, each with its part of the batch: N ranks compute what one does.

Each rank's loss is its part of the whole batch's: the sum over its tokens divided by the tokens of
all. So the ranks' losses and gradients only have to be added up. They are in one float32 message,
or in few large ones, and each is a computation of its own: sums of different ranks belong together
by their order alone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any, Final

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mlxft.compute.arrays import named_arrays, number, put_arrays
from mlxft.compute.link import measured_sums
from mlxft.compute.seeds import step_seed
from mlxft.compute.training import operations
from mlxft.compute.training.batches import BatchArrays, TokenizedSplit
from mlxft.compute.training.gradient_checkpointing import checkpointed
from mlxft.compute.training.loss import Loss
from mlxft.compute.training.messages import broadcast, grouped
from mlxft.compute.training.pair_arrays import PairArrays
from mlxft.compute.training.place import Place
from mlxft.compute.training.preference_loss import Figures
from mlxft.compute.training.rank_orders import (
    AddGradient,
    Arrays,
    FindLogProbabilities,
    FindLoss,
    MeasureLink,
    Ranks,
    Sum,
    TakeWeights,
    Update,
)
from mlxft.compute.training.step import (
    AccumulatedGradients,
    BatchLoss,
    Stepper,
    StepResult,
    added,
    norm_of,
)
from mlxft.data.batch_plan import Batch, dealt
from mlxft.errors import RunError
from mlxft.hosts.link import SumTime, gradient_message, link_of
from mlxft.runs import events as ev

_ON_CPU: Final = mx.default_device() == mx.Device(mx.cpu)


@dataclass(frozen=True, kw_only=True)
class Dealt:
    """A batch as the ranks compute it: a part for each, None for one without a row."""

    parts: tuple[BatchArrays | PairArrays | None, ...]
    target_count: int
    total_weight: float

    @property
    def mismatched(self) -> Dealt | None:
        """Labelled answers' prompts with other records' answers, if KTO's estimate needs them."""
        found = [getattr(each, "mismatched", None) for each in self.parts]
        if not any(each is not None for each in found):
            return None
        return Dealt(
            parts=tuple(found), target_count=self.target_count, total_weight=self.total_weight
        )


class RankedStepper(Stepper):
    """A `Stepper` on one of several ranks; every rank has the same weights after each update.

    The parts' methods are called on all ranks alike; the others on rank 0 alone, which has the
    ranks follow with `lead`.
    """

    def __init__(self, *arguments: Any, rank: int, sum_of: Sum, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._rank = rank
        self._sum = sum_of
        self._ranks: Ranks | None = None
        self.computed = 0.0
        """Seconds of the latest step that this rank computed, without waiting for others."""
        self._compiled_message = mx.compile(
            self._message, inputs=[self._model.state], outputs=[self._model.state]
        )
        self._compiled_sum = mx.compile(self._of_message)

    def lead(self, ranks: Ranks) -> None:
        """Have these ranks follow from now on."""
        self._ranks = ranks

    # All ranks

    def add_part(self, order: AddGradient) -> StepResult:
        """Accumulate a batch's gradient, a part of which is computed here."""
        key = mx.random.key(step_seed(self._seed, order.step))
        before = self.accumulated
        if not before.total:
            before = AccumulatedGradients(unit=order.total_weight if self._by_tokens else 0.0)
        weight = before.weight_of(order.total_weight)
        started = time.perf_counter()
        if order.part is None:
            messages = self._zeros()
        else:
            part = arrays_of(order.part)
            recomputed = (
                checkpointed(self._model.layers) if self._grad_checkpoint else nullcontext()
            )
            with operations.replaced(choices=self._choices), recomputed:
                messages = self._compiled_message(key, part)
        mx.eval(messages)
        self.computed = time.perf_counter() - started
        summed = []
        while messages:  # Each is freed once it is added up.
            summed.append(self._sum(messages.pop(0)))
        loss, figures, norm, total = self._compiled_sum(
            summed, before.total, mx.array(weight, mx.float32)
        )
        mx.eval(loss, figures, norm, total)
        result = StepResult(
            number(loss), order.target_count, number(norm), self.preference_of([figures])
        )
        if result.is_finite:
            self.accumulated = AccumulatedGradients(total, before.weight + weight, before.unit)
        return result

    def loss_of_part(self, order: FindLoss) -> tuple[float, mx.array]:
        """The loss and figures of a batch, a part of which is computed here."""
        if order.part is None:
            message = mx.zeros(1 + self._figure_count, mx.float32)
        else:
            found = self._without_dropout(self._compiled_loss, arrays_of(order.part))
            message = mx.concatenate([each.astype(mx.float32).reshape(-1) for each in found])
        message = self._sum(message)
        return number(message[0]), message[1:]

    def log_probabilities_of_part(self, order: FindLogProbabilities) -> mx.array:
        """(answers,): the log-probabilities of all, some of which are computed here."""
        found = np.zeros(order.count, np.float32)
        if order.part is not None:
            part = arrays_of(order.part)
            (logps,) = self._without_dropout(self._compiled_logps, part)
            found[list(order.own)] = np.asarray(logps.astype(mx.float32))[_real(part)]
        return self._sum(mx.array(found))

    def sums(self, order: MeasureLink) -> list[SumTime]:
        """What sums over all ranks take."""
        return measured_sums(self._sum, order.message)

    def share_weights(self, order: TakeWeights) -> None:
        """Give every rank the weights, optimizer state and waiting gradients of rank 0."""
        if self._rank:
            # Of the sizes of what comes.
            trained = self._model.trainable_parameters() if order.weight else {}
            waiting = {name: mx.zeros_like(each) for name, each in named_arrays(trained).items()}
            self.accumulated = AccumulatedGradients(waiting, order.weight, order.unit)
        arrays = named_arrays(self._shared())
        if self._rank:
            arrays = {name: mx.zeros_like(each) for name, each in arrays.items()}
        for sent in broadcast(arrays, self._sum, sends=self._rank == 0):
            if self._rank:
                self._take(sent)

    def _shared(self) -> dict[str, Any]:
        return {
            "trained": self._model.trainable_parameters(),
            "optimizer": self._optimizer.state,
            "waiting": self.accumulated.total,
        }

    def _take(self, sent: Mapping[str, mx.array]) -> None:
        """Replace own arrays by some of rank 0's."""
        mx.eval(sent)
        self._model.load_weights(list(_under(sent, "trained.")), strict=False)
        put_arrays(self._optimizer.state, dict(_under(sent, "optimizer.")))
        self.accumulated.total.update(_under(sent, "waiting."))

    # Rank 0

    def arrays(self, split: TokenizedSplit, batch: Batch) -> Any:
        """The batch as the ranks compute it."""
        assert self._ranks is not None
        batches = dealt(batch, self._ranks.count)
        return whole_of([split.arrays(each) if each.rows else None for each in batches])

    def add_gradient(self, step: int, batch: Any) -> StepResult:
        batch = self._placed_in(self._with_estimate(batch))
        orders = [
            AddGradient(
                step=step,
                part=packed(part),
                total_weight=batch.total_weight,
                target_count=batch.target_count,
                own_count=0 if part is None else int(number(part.target_count)),
            )
            for part in batch.parts
        ]
        result = self.add_part(self._own(orders))
        assert self._ranks is not None
        self._ranks.stepped(self.computed, orders[0].own_count)
        return result

    def measured_link(self) -> ev.RanksJoined:
        """Measure the link between the ranks, up to the message of a step."""
        assert self._ranks is not None
        ranks = self._ranks
        trained = named_arrays(self._model.trainable_parameters()).values()
        order = MeasureLink(message=gradient_message(sum(each.size for each in trained)))
        ranks.send([order] * (ranks.count - 1))
        found = self.sums(order)
        return ev.RanksJoined(
            hosts=ranks.hosts,
            backend=ranks.backend,
            link=link_of(found, ranks.count),
            message=order.message,
            seconds=found[-1].seconds,
        )

    def send_weights(self) -> None:
        """Give every rank what this one has."""
        assert self._ranks is not None
        order = TakeWeights(weight=self.accumulated.weight, unit=self.accumulated.unit)
        self._ranks.send([order] * (self._ranks.count - 1))
        self.share_weights(order)

    def update(self, learning_rate: float) -> None:
        if self._ranks is not None:
            # A rank that is lost now is missed by the next sum, once this step is complete.
            with suppress(RunError):
                self._ranks.send([Update(learning_rate=learning_rate)] * (self._ranks.count - 1))
        super().update(learning_rate)

    def loss(self, batch: Any) -> BatchLoss:
        batch = self._with_estimate(batch)
        orders = [FindLoss(part=packed(part)) for part in batch.parts]
        loss, figures = self.loss_of_part(self._own(orders))
        is_preference = not isinstance(self._loss, Loss)
        return BatchLoss(
            loss, batch.target_count, batch.total_weight, figures if is_preference else None
        )

    def log_probabilities(self, batch: Any) -> mx.array:
        """(answers,): those of all parts, numbered as one rank's, without padding."""
        orders, first = [], 0
        numbers = [0 if each is None else int(number(each.examples)) for each in batch.parts]
        total = sum(numbers)
        blocks = next(_blocks(each) for each in batch.parts if each is not None)
        for part, count in zip(batch.parts, numbers, strict=True):
            own = [first + block * total + n for block in range(blocks) for n in range(count)]
            orders.append(FindLogProbabilities(part=packed(part), own=own, count=blocks * total))
            first += count
        return self.log_probabilities_of_part(self._own(orders))

    def _own(self, orders: Sequence[Any]) -> Any:
        """Send the other ranks their orders; rank 0's own."""
        assert self._ranks is not None
        self._ranks.send(orders[1:])
        return orders[0]

    def _with_estimate(self, batch: Any) -> Any:
        if not isinstance(batch, Dealt) or (other := batch.mismatched) is None:
            return batch
        pairs: list[Any] = [each for each in other.parts if each is not None]
        known = np.concatenate([np.asarray(each.reference)[_real(each)] for each in pairs])
        logps = np.asarray(self.log_probabilities(other))
        kl = mx.array(max(float((logps - known).mean(dtype=np.float64)), 0.0), mx.float32)
        parts: list[Any] = list(batch.parts)
        parts = [None if each is None else each._replace(kl=kl, mismatched=None) for each in parts]
        return Dealt(
            parts=tuple(parts), target_count=batch.target_count, total_weight=batch.total_weight
        )

    def _placed_in(self, batch: Dealt) -> Dealt:
        """The batch with the place of each part in it, where dropout or noise depends on it."""
        if not self._dropout.drops and self._noise is None:
            return batch
        real = [each for each in batch.parts if each is not None]
        blocks = _row_blocks(real[0])
        length = self._length(real)
        rows = sum(each.tokens.shape[0] for each in real) // blocks
        parts: list[Any] = []
        first = 0
        for each in batch.parts:
            if each is None:
                parts.append(None)
                continue
            count = each.tokens.shape[0] // blocks
            parts.append(each._replace(place=Place(first, count, rows, length, blocks)))
            first += count
        return Dealt(
            parts=tuple(parts), target_count=batch.target_count, total_weight=batch.total_weight
        )

    def _length(self, parts: Sequence[Any]) -> int:
        """The inputs of a row where one rank computes all of them.

        The chunked loss leaves out padding on a CPU.
        """
        width: int = parts[0].tokens.shape[1] - 1
        loss = self._loss
        if not (_ON_CPU and isinstance(loss, Loss) and loss.chunked and not loss.trains_head):
            return width
        reach = 0
        for each in parts:
            real = np.asarray(each.weights) != 0
            reach = max(reach, int((np.asarray(each.positions)[real] % width).max()) + 1)
        return reach

    # Messages

    @property
    def _figure_count(self) -> int:
        return 1 if isinstance(self._loss, Loss) else len(Figures._fields)

    def _message(self, key: mx.array, batch: Any) -> list[mx.array]:
        """Loss, figures and gradient of a part as few arrays in float32."""
        loss, figures, flat, _ = self._of_batch(key, batch)
        return [
            mx.concatenate([each.astype(mx.float32).reshape(-1) for each in group])
            for group in grouped([loss, figures, *flat.values()])
        ]

    def _zeros(self) -> list[mx.array]:
        """The message of a rank without a row."""
        trained = named_arrays(self._model.trainable_parameters()).values()
        groups = grouped([mx.zeros(1), mx.zeros(self._figure_count), *trained])
        return [mx.zeros(sum(each.size for each in group), mx.float32) for group in groups]

    def _of_message(
        self, messages: list[mx.array], total: dict[str, mx.array], weight: mx.array
    ) -> tuple[Any, ...]:
        """The loss, its figures and the gradient's norm, and the sum of gradients."""
        trained = named_arrays(self._model.trainable_parameters())
        head = [mx.zeros(1), mx.zeros(self._figure_count)]
        found: list[mx.array] = []
        groups = grouped([*head, *trained.values()])
        for message, group in zip(messages, groups, strict=True):
            start = 0
            for each in group:
                values = message[start : start + each.size]
                found.append(values.reshape(each.shape).astype(each.dtype))
                start += each.size
        flat = dict(zip(trained, found[2:], strict=True))
        return found[0].squeeze(), found[1], norm_of(flat), added(flat, total, weight)


def whole_of(parts: Sequence[Any]) -> Dealt:
    """The parts of a batch, each of which counts by what all of them have."""
    real = [each for each in parts if each is not None]
    target_count = sum(int(number(each.target_count)) for each in real)
    weight = sum(number(each.total_weight) for each in real)
    shared: dict[str, mx.array]
    if isinstance(real[0], PairArrays):
        text = sum(number(each.text_weights.sum()) for each in real)
        shared = {
            "all_examples": mx.array(weight, mx.float32),
            "all_text": mx.array(text, mx.float32),
        }
    else:
        shared = {"total_weight": mx.array(weight, mx.float32)}
    return Dealt(
        parts=tuple(None if each is None else each._replace(**shared) for each in parts),
        target_count=target_count,
        total_weight=weight,
    )


def packed(part: BatchArrays | PairArrays | None) -> Arrays | None:
    """A part's arrays to be sent to another process."""
    if part is None:
        return None
    values = {
        name: np.asarray(value) if isinstance(value, mx.array) else value
        for name, value in part._asdict().items()
        if value is not None and name != "mismatched"
    }
    return {**values, "place": part.place and tuple(part.place)}


def arrays_of(part: Arrays) -> BatchArrays | PairArrays:
    """A part as it was before it was packed."""
    values: dict[str, Any] = {
        name: mx.array(value)
        for name, value in part.items()
        if name != "place" and value is not None
    }
    place = part["place"]
    values["place"] = None if place is None else Place(*place)
    return PairArrays(**values) if "answers" in values else BatchArrays(**values)


def _blocks(part: Any) -> int:
    """2 where each of a part's examples has a chosen and a rejected answer."""
    return 2 if part.reference.shape[0] == 2 * part.real.shape[0] else 1


def _row_blocks(part: Any) -> int:
    """2 where a part's rows are chosen answers and then the rejected ones."""
    is_pairs = isinstance(part, PairArrays) and part.segments is None
    return _blocks(part) if is_pairs else 1


def _real(part: Any) -> NDArray[np.bool_]:
    """Which of a part's answers are no padding."""
    return np.tile(np.asarray(part.real) > 0, _blocks(part))


def _under(arrays: Mapping[str, mx.array], prefix: str) -> list[tuple[str, mx.array]]:
    return [
        (name.removeprefix(prefix), array)
        for name, array in arrays.items()
        if name.startswith(prefix)
    ]
