"""The kernels of compiled steps, made by a process beside a run that isn't compiled meanwhile.

CUDA's compiler takes minutes for those of recurrent layers, once a machine. Their names depend on a
step's operations, types and constants, so the process computes the run's own step: its model's
weights with fewer layers, rows of its own data, its loss and its choices.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol, cast

from mlxft import recipe as recipes
from mlxft.compute import backend
from mlxft.compute.arrays import named_arrays
from mlxft.compute.models import adapters, loading
from mlxft.compute.models.loading import LoadedModel
from mlxft.compute.tokenization import load_tokenizer
from mlxft.compute.training import optimizers
from mlxft.compute.training.batches import TokenizedSplit
from mlxft.compute.training.choices import Choices
from mlxft.compute.training.expected_memory import Expected
from mlxft.compute.training.loss import Loss
from mlxft.compute.training.pair_arrays import PairArrays
from mlxft.compute.training.preference_loss import PreferenceLoss
from mlxft.compute.training.start_checks import Verified
from mlxft.compute.training.step import Stepper
from mlxft.compute.training.stepper_options import loss_of, stepper_options
from mlxft.data.batch_plan import Batch
from mlxft.recipe import Recipe
from mlxft.runs import events as ev
from mlxft.runs.events import AnyEvent
from mlxft.text import figures

ROWS: Final = 2
"""Of a batch: one row has kernels of its own, more have the same."""

FIRST: Final = 256
"""Batches of a run whose widths are looked at."""

_NUMBERS: Final = frozenset({"layer_idx", "layer_id"})
"""What layers may keep of their place; no operation depends on it."""


@dataclass(frozen=True, kw_only=True)
class MakeKernels:
    """A step of some of a model's layers, `kept` by index, on batches as `packed` gives them.

    With the batches of labelled answers come those of their mismatched ones, else None. `memory`
    are the bytes that it may take.
    """

    recipe: Recipe
    path: Path
    kept: tuple[int, ...]
    ways: Choices
    loss: Loss | PreferenceLoss
    grad_checkpoint: bool
    batches: tuple[tuple[Any, Any], ...]
    memory: int


class KernelMaker(Protocol):
    """A process beside the run that makes kernels."""

    def start(self, order: MakeKernels) -> str | None:
        """Begin, and return at once; why that can't be, in words for a sentence, else None."""

    @property
    def made(self) -> bool | None:
        """Whether it has made them; None until it has ended."""


class KernelsBeside:
    """Has a run's steps compiled from the first one on that finds their kernels made."""

    def __init__(self, maker: KernelMaker | None, emit: Callable[[AnyEvent], object]) -> None:
        self._maker = maker
        self._emit = emit
        self._has_begun = self._is_waiting = False

    def begin(self, wanted: MakeKernels | str | None) -> None:
        """Start the process once, or say why it can't be; None where no kernels are to be made.

        After a first step, so that the process finds what is compiled for the run itself.
        """
        if wanted is None or self._has_begun:
            return
        self._has_begun = True
        why = wanted if isinstance(wanted, str) else None
        if not isinstance(wanted, str) and self._maker is not None:
            why = self._maker.start(wanted)
            self._is_waiting = why is None
        if self._is_waiting:
            self._say("a process beside the run makes their kernels")
        else:
            self._stay(f", because {why}" if why else "")

    def take(self, stepper: Stepper, step: int) -> None:
        """If the kernels have been made since, compile this and all later steps."""
        if not self._is_waiting or self._maker is None or (made := self._maker.made) is None:
            return
        self._is_waiting = False
        if made:
            stepper.compile_from_now_on()
            self._say(f"compiled from step {step} on; the kernels are made")
        else:
            self._stay(", because their kernels couldn't be made beside the run")

    def _stay(self, why: str) -> None:
        self._say(f"stay uncompiled{why}; compile_steps: always compiles them")

    def _say(self, what: str) -> None:
        self._emit(ev.OperationsChosen(reasons=[f"Steps: {what}."]))


def planned(
    recipe: Recipe,
    loaded: LoadedModel,
    path: Path,
    *,
    ways: Choices,
    checked: Verified,
    expected: Expected | None,
    train: TokenizedSplit,
) -> MakeKernels | str | None:
    """What a process beside this run is to compute; why none can, or None if none needs to.

    `loaded` has the recipe's adapter; `path` is its folder.
    """
    if ways.compiled or ways.kernels is None:
        return None
    if expected is None:
        return "the memory of such a model isn't known"
    kept = kept_layers(loaded.model)
    rows, limit = min(ROWS, recipe.batch_size), backend.available_memory()
    memory = _memory(recipe, loaded, kept, expected, rows)
    if limit is not None and expected.total + memory > limit:
        need, own, there = map(figures.gigabytes, (memory, expected.total, limit))
        return f"making their kernels would take {need} GB beside the run's {own} of {there} GB"
    return MakeKernels(
        recipe=_of_fewer_layers(recipe, loaded.model, kept),
        path=path,
        kept=kept,
        ways=replace(ways, compiled=True, kernels=None),
        loss=loss_of(recipe, checked),
        grad_checkpoint=checked.grad_checkpoint,
        batches=tuple(_sent(train.arrays(each)) for each in _batches(train, rows)),
        memory=memory,
    )


def make(order: MakeKernels) -> None:
    """Compute the step, compiled. Raises what loading and computing do."""
    recipe = order.recipe
    # Lazily, so that only the layers that are kept are read.
    loaded = loading.load(order.path, recipe.trust_remote_code, lazy=True)
    keep_layers(loaded.model, order.kept)
    named = recipe.train_embeddings
    tokenizer = load_tokenizer(order.path, recipe.trust_remote_code) if named else None
    adapters.attach(loaded, recipe, tokenizer)
    backend.limit_memory(order.memory)
    optimizer = optimizers.make_optimizer(recipe)
    optimizer.init(loaded.model.trainable_parameters())
    options = stepper_options(
        recipe,
        loaded,
        loss=order.loss,
        grad_checkpoint=order.grad_checkpoint,
        ways=order.ways,
    )
    stepper = Stepper(loaded.model, optimizer, **options)
    accumulates = recipe.grad_accumulation_steps > 1
    batches = [_received(*each) for each in order.batches]
    for step, batch in enumerate(batches * 2 if accumulates else batches, 1):
        stepper.add_gradient(step, batch)
        if not accumulates:
            stepper.update(recipe.learning_rate)
    if accumulates:
        stepper.update(recipe.learning_rate)
    if recipe.val_batches:
        for batch in batches:
            stepper.loss(batch)


def kept_layers(model: Any) -> tuple[int, ...]:
    """Which of a model's layers have all of its operations between them, by index.

    Of the same layers more than twice in a row two remain: each meets its own kind and the next.
    All do where a layer's place would be taken by one of another kind, since a model may know its
    layers' kinds by their places.
    """
    layers = list(model.layers)
    if _holder(model) is None:
        return tuple(range(len(layers)))
    return shortened(_numbered(map(_kind, layers)), _numbered(map(_place, layers)))


def _numbered(kinds: Iterable[Hashable]) -> list[int]:
    """A number for each kind: they are compared often."""
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(each, len(numbers)) for each in kinds]


def shortened(kinds: Sequence[Hashable], places: Sequence[Hashable]) -> tuple[int, ...]:
    """The indices that remain when of blocks more than twice in a row two are kept.

    A block is only left out where all that remain are then at places of their own kind.
    """
    kept = list(range(len(kinds)))
    for period in range(len(kinds) // 3, 0, -1):
        at = 0
        while at + 3 * period <= len(kept):
            fewer = kept[: at + 2 * period] + kept[at + 3 * period :]
            blocks = [
                [kinds[index] for index in kept[start : start + period]]
                for start in range(at, at + 3 * period, period)
            ]
            is_same = blocks[0] == blocks[1] == blocks[2]
            if is_same and all(places[i] == places[n] for n, i in enumerate(fewer)):
                kept = fewer
            else:
                at += 1
    return tuple(kept)


def keep_layers(model: Any, kept: Sequence[int]) -> None:
    """Leave these layers in a model."""
    if len(kept) == len(model.layers):
        return
    holder = _holder(model)
    assert holder is not None
    holder.layers = [holder.layers[index] for index in kept]


def _holder(model: Any) -> Any | None:
    """The module whose attribute is the model's list of layers."""
    layers = [id(each) for each in model.layers]
    for _, module in model.named_modules():
        own = module.get("layers")
        if isinstance(own, list) and [id(each) for each in own] == layers:
            return module
    return None


def _kind(layer: Any) -> Hashable:
    """What a layer's operations depend on: its modules with their settings, its arrays, and which
    of them are trained."""
    modules = tuple(
        (path, type(module).__name__, tuple(_settings(module)))
        for path, module in sorted(layer.named_modules(), key=lambda each: str(each[0]))
    )
    arrays = named_arrays(layer.parameters())
    shapes = tuple((name, each.shape, str(each.dtype)) for name, each in arrays.items())
    return modules, shapes, tuple(named_arrays(layer.trainable_parameters()))


def _place(layer: Any) -> Hashable:
    """What a model may know of a layer by its place, whether it is trained or not."""
    parts = ((name, type(part).__name__) for name, part in sorted(layer.children().items()))
    return type(layer).__name__, tuple(_settings(layer)), tuple(parts)


def _settings(module: Any) -> Iterator[tuple[str, str]]:
    for name, value in sorted(vars(module).items()):
        is_plain = isinstance(value, (bool, int, float, str))
        if is_plain and name not in _NUMBERS:
            yield name, repr(value)


def _of_fewer_layers(recipe: Recipe, model: Any, kept: Sequence[int]) -> Recipe:
    """The recipe that trains those of the kept layers that it trains of all."""
    if recipe.num_layers <= 0:
        return recipe
    first = len(model.layers) - recipe.num_layers
    return recipes.replace(recipe, "num_layers", sum(index >= first for index in kept))


def _memory(
    recipe: Recipe, loaded: LoadedModel, kept: Sequence[int], expected: Expected, rows: int
) -> int:
    """The bytes that so many rows of a batch take at most.

    Fewer layers take no more than all, and fewer rows their share, but for what doesn't depend on
    them.
    """
    weights, left_out = _bytes(loaded.model), _left_out(loaded.model, kept)
    work = max(0, expected.total - weights)
    return weights - left_out + int(max(0.5, rows / recipe.batch_size) * work)


def _left_out(model: Any, kept: Sequence[int]) -> int:
    """The bytes of the layers that aren't kept."""
    return sum(_bytes(each) for index, each in enumerate(model.layers) if index not in kept)


def _bytes(module: Any) -> int:
    return sum(each.nbytes for each in named_arrays(module.parameters()).values())


def _batches(train: TokenizedSplit, rows: int) -> list[Batch]:
    """The widest and the narrowest of a run's first batches, with so many of their rows.

    Between them they have the kernels of all widths: only those of very short rows are others.
    """
    plan = train.plan
    first = [plan.batch(step) for step in range(1, min(FIRST, plan.steps_per_epoch) + 1)]
    most = max(len(each.rows) for each in first)
    whole = sorted((each for each in first if len(each.rows) == most), key=lambda b: b.width)
    by_width = {each.width: each for each in (whole[-1], whole[0])}
    return [Batch(each.rows[:rows], each.width) for each in by_width.values()]


def _sent(batch: Any) -> tuple[Any, Any]:
    """A batch's arrays as another process receives them."""
    from mlxft.compute.training.ranked_step import packed

    return packed(batch), packed(getattr(batch, "mismatched", None))


def _received(arrays: Any, mismatched: Any) -> Any:
    from mlxft.compute.training.ranked_step import arrays_of

    batch = arrays_of(arrays)
    if isinstance(batch, PairArrays) and mismatched is not None:
        return batch._replace(mismatched=cast(PairArrays, arrays_of(mismatched)))
    return batch
