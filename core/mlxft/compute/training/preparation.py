"""Loads all that a recipe's run needs into memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlxft.adapters import base_model
from mlxft.adapters.files import adapter_files
from mlxft.compute import backend
from mlxft.compute.arrays import named_arrays
from mlxft.compute.models import adapters, loading
from mlxft.compute.models.loading import LoadedModel
from mlxft.compute.tokenization import (
    Tokenizer,
    dated,
    first_line,
    load_tokenizer,
    of_adapter,
    of_run,
)
from mlxft.compute.training import (
    choices,
    expected_memory,
    kernel_making,
    operations,
    optimizers,
    out_of_memory,
    packing,
    prepared_data,
    reference,
    remembered_checks,
)
from mlxft.compute.training.batches import TokenizedSplit
from mlxft.compute.training.checkpoint import Checkpoint
from mlxft.compute.training.expected_memory import Expected, run_ahead_limit
from mlxft.compute.training.kernel_making import MakeKernels
from mlxft.compute.training.loss import Loss
from mlxft.compute.training.start_checks import Verified, own_code, verified
from mlxft.compute.training.step import Stepper
from mlxft.compute.training.stepper_options import loss_of, stepper_options
from mlxft.data.model_limits import limits_of
from mlxft.errors import ModelError, RunError
from mlxft.recipe import Recipe
from mlxft.runs import events as ev
from mlxft.runs.events import AnyEvent
from mlxft.storage.paths import expanded

if TYPE_CHECKING:
    from mlxft.compute.training.rank_orders import Ranks

Emit = Callable[[AnyEvent], object]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Model, data and optimizer of a run, at its start or at a checkpoint."""

    loaded: LoadedModel
    path: Path
    base: Mapping[str, str]
    """What the adapter's file says of the model."""
    tokenizer: Tokenizer
    tokenizer_of: Callable[[Path], Tokenizer]
    """The tokenizer that a saved adapter's conversations are written with."""
    train: TokenizedSplit
    valid: TokenizedSplit
    stepper: Stepper
    optimizer: Any
    schedule: Callable[[int], float]
    run_ahead_limit: int | None
    """Bytes up to which MLX may schedule ahead; None for an unknown model family."""
    kernels: MakeKernels | str | None
    """What a process beside the run is to compute, or why none can; None if none needs to."""


def prepare(
    recipe: Recipe,
    checkpoint: Checkpoint | None,
    emit: Emit,
    keep_going: Callable[[], bool],
    started: datetime,
    folder: Path,
    ranks: Ranks | None = None,
) -> Prepared | None:
    """Tokenize the data, load the model and restore the checkpoint; None if cancelled.

    A chat template that writes the date gets that of `started`, and one that the recipe chooses is
    kept in the run's `folder`, so that a run resumed on another day trains the same tokens. `ranks`
    are the other processes that train, if there are any. Errors that are quick to find are found
    first. Raises an `MlxftError`.
    """
    schedule, optimizer = optimizers.make_schedule(recipe), _optimizer(recipe, emit)
    path = loading.locate(recipe.model, emit)
    if checkpoint is not None:
        checkpoint.refuse_other_base(path)
    if ranks is not None:
        ranks.load(recipe, base_model.metadata(path))
    own = load_tokenizer(path, recipe.trust_remote_code)
    tokenizer = dated(of_run(own, recipe.template, folder), started)
    splits = prepared_data.tokenized(recipe, tokenizer, limits_of(path), emit, keep_going)
    if splits is None:
        return None
    train, valid = splits
    model = _model(recipe, path, tokenizer, train.longest, checkpoint, emit)
    optimizer.init(model.loaded.model.trainable_parameters())
    stepper = _stepper(recipe, model, optimizer, ranks, emit)
    emit(ev.OperationsChosen(reasons=[*model.ways.reasons, *_ranks_reason(ranks, checkpoint)]))
    # Of the weights as they are before the first step, so before a checkpoint replaces them.
    if not reference.find(recipe, path, stepper, splits, emit, keep_going):
        return None
    if checkpoint is not None:
        stepper.accumulated = checkpoint.restore(model.loaded.model, optimizer)
        stepper.send_weights()
    return Prepared(
        loaded=model.loaded,
        path=path,
        base=base_model.metadata(path),
        tokenizer=tokenizer,
        tokenizer_of=lambda adapter: dated(of_adapter(own, adapter), started),
        train=train,
        valid=valid,
        stepper=stepper,
        optimizer=optimizer,
        schedule=schedule,
        run_ahead_limit=model.run_ahead_limit,
        kernels=_kernels(recipe, model, path, train, ranks),
    )


def _kernels(
    recipe: Recipe, model: _Model, path: Path, train: TokenizedSplit, ranks: Ranks | None
) -> MakeKernels | str | None:
    """What a process beside the run is to compute for its kernels."""
    found = kernel_making.planned(
        recipe,
        model.loaded,
        path,
        ways=model.ways,
        checked=model.checked,
        expected=model.expected,
        train=train,
    )
    return found if found is None or ranks is None else "several processes train"


def _optimizer(recipe: Recipe, emit: Emit) -> Any:
    """The recipe's optimizer, without state; warns of one that ignores the learning rate."""
    optimizer = optimizers.make_optimizer(recipe)
    if optimizers.ignores_learning_rate(optimizer):
        message = (
            f"{recipe.optimizer} takes its own step size and ignores learning_rate; set "
            f"optimizer_config to {{{recipe.optimizer}: {{relative_step: false}}}} to use it."
        )
        emit(ev.Warned(message=message))
    return optimizer


@dataclass(frozen=True, kw_only=True)
class _Model:
    """The model with its adapter, and how it is trained."""

    loaded: LoadedModel
    ways: choices.Choices
    checked: Verified
    expected: Expected | None
    run_ahead_limit: int | None


def _model(
    recipe: Recipe,
    path: Path,
    tokenizer: Tokenizer,
    longest: int,
    checkpoint: Checkpoint | None,
    emit: Emit,
) -> _Model:
    """Load the model, check how it can be trained, and report what it will need.

    `longest` are the tokens of the longest record. Raises `ModelError` and `RunError`.
    """
    loaded, seconds = _loaded(recipe, path, tokenizer, checkpoint, emit)
    ways = choices.chosen(recipe, loaded)
    checked = _verified(recipe, loaded, path, longest, ways)
    with _compiling(ways):
        expected = expected_memory.expected(recipe, loaded, longest, checked)
    expected_memory.refuse_swap(recipe, expected)
    _report_model(recipe, loaded, seconds, expected, emit)
    too_much = expected_memory.warning(recipe, loaded, longest, expected)
    for message in (*checked.warnings, *too_much):
        emit(ev.Warned(message=message))
    limit = run_ahead_limit(recipe, loaded, longest)
    return _Model(
        loaded=loaded, ways=ways, checked=checked, expected=expected, run_ahead_limit=limit
    )


def _stepper(
    recipe: Recipe, model: _Model, optimizer: Any, ranks: Ranks | None, emit: Emit
) -> Stepper:
    """What makes the steps, in this process alone or as the first of `ranks`."""
    loss, grad_checkpoint = loss_of(recipe, model.checked), model.checked.grad_checkpoint
    if ranks is None:
        options = stepper_options(
            recipe, model.loaded, loss=loss, grad_checkpoint=grad_checkpoint, ways=model.ways
        )
        return Stepper(model.loaded.model, optimizer, **options)
    # One process has no use for them.
    from mlxft.compute.training import rank_work
    from mlxft.compute.training.rank_orders import Begin

    begin = Begin(
        ways=model.ways,
        loss=loss,
        grad_checkpoint=grad_checkpoint,
        run_ahead_limit=model.run_ahead_limit,
    )
    return rank_work.leading(recipe, model.loaded, optimizer, begin, ranks, emit)


def _ranks_reason(ranks: Ranks | None, checkpoint: Checkpoint | None) -> list[str]:
    """What the number of ranks means for a resume."""
    if ranks is None or checkpoint is None or checkpoint.state.ranks != ranks.count:
        return []
    return [f"Processes: {ranks.count} as before, so that sums are made in the same order."]


def _verified(
    recipe: Recipe, loaded: LoadedModel, path: Path, longest: int, ways: choices.Choices
) -> Verified:
    """How to train this model, from its files in `path`; an earlier run's check counts.

    Raises `ModelError` if it can't be trained, or if records are to be packed and the model can't
    keep them apart, `RunError` if even a few tokens are too much for the memory.
    """
    key = remembered_checks.check_key(recipe, loaded, path)
    if (known := remembered_checks.remembered(key)) is not None:
        return known
    try:
        with backend.beside_training(), _compiling(ways):
            found = verified(
                loaded.model,
                recipe.model,
                grad_checkpoint=recipe.grad_checkpoint,
                dtype=adapters.compute_dtype(loaded, recipe),
            )
    except (RuntimeError, MemoryError) as error:
        raise RunError(
            f"{recipe.model}: out of memory before the first step ({first_line(error)}); "
            f"{out_of_memory.remedy(recipe, loaded, longest)}.",
            cause="out_of_memory",
        ) from error
    if recipe.packing:
        _require_packing(recipe, loaded, found.loss, ways)
    remembered_checks.remember(key, found)
    return found


def _compiling(ways: choices.Choices) -> AbstractContextManager[None]:
    """Compile no kernels before the first step where its own aren't compiled either."""
    return nullcontext() if ways.compiled else backend.not_compiled()


def _require_packing(
    recipe: Recipe, loaded: LoadedModel, loss: Loss, ways: choices.Choices
) -> None:
    """Raise `ModelError` for a model that can't train packed rows, or only one at a time."""
    longest = packing.longest_row(loaded.config)
    if longest is not None and recipe.max_seq_length > longest:
        raise ModelError(
            f"{recipe.model}: this model can't train packed rows of more than {longest} tokens "
            f"because its attention depends on positions beyond; set max_seq_length to {longest} "
            "or packing to false."
        )

    def refusal(rows: int) -> str | None:
        with operations.replaced(choices=ways):
            return packing.refusal(
                loaded.model, loss, loaded.dtype, rows, width=recipe.max_seq_length
            )

    reason = refusal(recipe.batch_size)
    if reason is None:
        return
    single = recipe.batch_size > 1 and refusal(1) is None
    remedy = "set batch_size to 1 or packing to false" if single else "set packing to false"
    raise ModelError(
        f"{recipe.model}: this model can't train packed rows because {reason}; {remedy}."
    )


def _loaded(
    recipe: Recipe,
    path: Path,
    tokenizer: Tokenizer,
    checkpoint: Checkpoint | None,
    emit: Emit,
) -> tuple[LoadedModel, float]:
    """The model with the recipe's adapter, and the seconds that loading took."""
    emit(ev.ProgressMade(stage="loading", done=0))
    started = time.perf_counter()
    loaded = loading.load(path, recipe.trust_remote_code)
    with own_code(recipe.model, loaded.model):
        adapters.attach(loaded, recipe, tokenizer)
    if adapters.mlx_lm_refuses(recipe):
        message = (
            "mlx_lm refuses adapters with rows of the embedding, which train_embeddings saves; use "
            "this one in mlxft-tui, or export the fused model with --to mlx."
        )
        emit(ev.Warned(message=message))
    if recipe.resume_adapter_file and checkpoint is None:
        start = expanded(recipe.resume_adapter_file)
        adapters.start_from(loaded.model, start, recipe)
        if message := base_model.warning(adapter_files(start, needs_config=False), path):
            emit(ev.Warned(message=message))
    return loaded, time.perf_counter() - started


def _report_model(
    recipe: Recipe, loaded: LoadedModel, seconds: float, expected: Expected | None, emit: Emit
) -> None:
    trained = named_arrays(loaded.model.trainable_parameters())
    emit(
        ev.ModelLoaded(
            model=recipe.model,
            model_type=loaded.model_type,
            total_parameters=loaded.total_parameters,
            trainable_parameters=sum(array.size for array in trained.values()),
            quantization=loaded.quantization,
            dtype=loaded.dtype,
            seconds=seconds,
            expected_peak=expected.peak if expected else None,
        )
    )
