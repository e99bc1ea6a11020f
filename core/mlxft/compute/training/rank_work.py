"""What a rank other than rank 0 does: it loads the model, and computes its part of each batch."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlxft.adapters import base_model
from mlxft.compute import backend
from mlxft.compute.models import adapters, loading
from mlxft.compute.models.loading import LoadedModel
from mlxft.compute.tokenization import load_tokenizer
from mlxft.compute.training import optimizers
from mlxft.compute.training.limits import clear_cache, training_limits
from mlxft.compute.training.rank_orders import (
    AddGradient,
    Begin,
    FindLogProbabilities,
    FindLoss,
    Join,
    Load,
    MeasureLink,
    Order,
    Ranks,
    Sum,
    TakeWeights,
    Update,
)
from mlxft.compute.training.ranked_step import RankedStepper
from mlxft.compute.training.stepper_options import stepper_options
from mlxft.errors import RunError
from mlxft.recipe import Recipe
from mlxft.runs.events import AnyEvent


def own_backend() -> str:
    """The way that ranks of this kind of device reach each other, as mlx.launch chooses it."""
    return "nccl" if backend.kind() == "cuda" else "ring"


def joined(order: Join) -> mx.distributed.Group:
    """The group of all ranks. Raises `RunError` where it can't be formed."""
    os.environ.update(order.environment)
    written: list[str] = []
    try:
        for name, text in order.files.items():
            with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as file:
                file.write(text)
            written.append(file.name)
            os.environ[name] = file.name
        return mx.distributed.init(strict=True, backend=order.backend)
    except (RuntimeError, ValueError) as error:
        raise RunError(
            f"The ranks can't reach each other over {order.backend} ({error}); check the addresses "
            "in hosts, and that no firewall is between them."
        ) from error
    finally:
        for name in written:
            Path(name).unlink(missing_ok=True)


def sum_in(group: mx.distributed.Group) -> Sum:
    """Adds up an array of each rank of a group."""

    def summed(array: mx.array) -> mx.array:
        found = mx.distributed.all_sum(array, group=group)
        mx.eval(found)
        return found

    return summed


def leading(
    recipe: Recipe,
    loaded: LoadedModel,
    optimizer: Any,
    begin: Begin,
    ranks: Ranks,
    emit: Callable[[AnyEvent], object],
) -> RankedStepper:
    """Rank 0's stepper, once the other ranks have its weights."""
    stepper = _stepper(recipe, loaded, optimizer, begin, rank=0, sum_of=ranks.join())
    ranks.send([begin] * (ranks.count - 1))
    stepper.lead(ranks)
    emit(stepper.measured_link())
    stepper.send_weights()
    return stepper


def _stepper(
    recipe: Recipe, loaded: LoadedModel, optimizer: Any, begin: Begin, *, rank: int, sum_of: Sum
) -> RankedStepper:
    how = stepper_options(
        recipe,
        loaded,
        loss=begin.loss,
        grad_checkpoint=begin.grad_checkpoint,
        ways=begin.ways,
    )
    return RankedStepper(loaded.model, optimizer, **how, rank=rank, sum_of=sum_of)


class RankWork:
    """Follows the orders of rank 0, one after the other, in one thread."""

    def __init__(self, rank: int, around: Callable[[Sum], Sum] = lambda sum_of: sum_of) -> None:
        """`around` may note each sum."""
        self._rank = rank
        self._around = around
        self._recipe = Recipe()
        self._loaded: LoadedModel | None = None
        self._optimizer: Any = None
        self._group: mx.distributed.Group | None = None
        self._stepper: RankedStepper | None = None
        self._limits = ExitStack()
        """Bounds what MLX schedules ahead and keeps, until this process ends."""

    def follow(self, order: Order) -> None:
        """Follow an order. Raises what loading and computing do."""
        match order:
            case Load(recipe=recipe):
                self._load(recipe)
            case Join():
                self._group = joined(order)
            case Begin():
                self._begin(order)
            case MeasureLink():
                self._computing.sums(order)
            case TakeWeights():
                self._computing.share_weights(order)
            case AddGradient():
                self._computing.add_part(order)
                clear_cache(self._recipe.clear_cache_threshold)
            case Update(learning_rate=rate):
                self._computing.update(rate)
            case FindLoss():
                self._computing.loss_of_part(order)
                clear_cache(self._recipe.clear_cache_threshold)
            case FindLogProbabilities():
                self._computing.log_probabilities_of_part(order)

    @property
    def base(self) -> dict[str, str]:
        """What an adapter's file says of the loaded model."""
        path = loading.locate(self._recipe.model, lambda _: None)
        return dict(base_model.metadata(path))

    @property
    def computed(self) -> float:
        """Seconds of the latest step that this rank computed."""
        return self._stepper.computed if self._stepper else 0.0

    @property
    def _computing(self) -> RankedStepper:
        assert self._stepper is not None
        return self._stepper

    def _load(self, recipe: Recipe) -> None:
        path = loading.locate(recipe.model, lambda _: None)
        self._recipe = recipe
        self._loaded = loading.load(path, recipe.trust_remote_code)
        named = recipe.train_embeddings
        tokenizer = load_tokenizer(path, recipe.trust_remote_code) if named else None
        adapters.attach(self._loaded, recipe, tokenizer)
        self._optimizer = optimizers.make_optimizer(recipe)
        self._optimizer.init(self._loaded.model.trainable_parameters())

    def _begin(self, order: Begin) -> None:
        assert self._loaded is not None
        assert self._group is not None
        self._stepper = _stepper(
            self._recipe,
            self._loaded,
            self._optimizer,
            order,
            rank=self._rank,
            sum_of=self._around(sum_in(self._group)),
        )
        self._limits.enter_context(training_limits(order.run_ahead_limit))
