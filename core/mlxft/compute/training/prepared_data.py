"""A run's records as tokens, and what the log says of them before the first step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from mlxft.compute.tokenization import Tokenizer
from mlxft.compute.training.batches import TokenizedSplit, tokenize_split
from mlxft.compute.training.preference_batches import tokenize_answers
from mlxft.data.dataset import Split, nothing_trained, require_trainable, skipped_note
from mlxft.data.fingerprint import fingerprint
from mlxft.data.model_limits import ModelLimits
from mlxft.recipe import Overlong, Recipe
from mlxft.runs import events as ev
from mlxft.runs.events import AnyEvent
from mlxft.storage.paths import expanded

VALIDATION_SEED = 0
"""Runs of different seeds validate on the same batches."""

_CONSEQUENCES: Final[dict[Overlong, str]] = {
    "truncate": "truncated",
    "split": "trained in pieces",
    "drop": "omitted",
}

Emit = Callable[[AnyEvent], object]


def tokenized(
    recipe: Recipe,
    tokenizer: Tokenizer,
    limits: ModelLimits,
    emit: Emit,
    keep_going: Callable[[], bool],
) -> tuple[TokenizedSplit, TokenizedSplit] | None:
    """The train and valid splits, reported with what is wrong with them; None if cancelled.

    Raises `DataError` if they can't be trained.
    """
    splits = require_trainable(expanded(recipe.data), recipe)
    for split in splits:
        for message in (skipped_note(split), *map(str, split.warnings)):
            if message:
                emit(ev.Warned(message=message))
    train, valid = _tokenized(recipe, tokenizer, splits, limits.vocabulary, emit, keep_going)
    if not keep_going():
        return None
    if not train.plan.trainable:
        raise nothing_trained(train.split.path, recipe)
    emit(_described(train, valid))
    for message in _warnings(recipe, train, valid, limits.positions):
        emit(ev.Warned(message=message))
    return train, valid


def _tokenized(
    recipe: Recipe,
    tokenizer: Tokenizer,
    splits: tuple[Split, Split],
    vocabulary: int | None,
    emit: Emit,
    keep_going: Callable[[], bool],
) -> tuple[TokenizedSplit, TokenizedSplit]:
    train, valid = splits
    total = len(train.records) + len(valid.records)

    def tokens_of(split: Split, seed: int, first: int) -> TokenizedSplit:
        def report(done: int) -> None:
            emit(ev.ProgressMade(stage="tokenizing", done=first + done, total=total))

        report(0)
        tokenize = tokenize_split if recipe.loss == "sft" else tokenize_answers
        return tokenize(
            tokenizer,
            split,
            recipe,
            seed=seed,
            vocabulary=vocabulary,
            on_progress=report,
            keep_going=keep_going,
        )

    return (
        tokens_of(train, recipe.seed, 0),
        tokens_of(valid, VALIDATION_SEED, len(train.records)),
    )


def _described(train: TokenizedSplit, valid: TokenizedSplit) -> ev.DataPrepared:
    plan = train.plan
    return ev.DataPrepared(
        train_records=len(train.split.records),
        valid_records=len(valid.split.records),
        tokens=train.tokens,
        trained_tokens=train.trained_tokens,
        longest=train.longest,
        truncated=train.overlong.truncated,
        split=train.overlong.split,
        dropped=train.overlong.dropped,
        rows=len(plan.rows),
        trained_as=train.trained_as,
        untrainable=plan.untrainable,
        steps_per_epoch=plan.steps_per_epoch,
        padding_share=plan.padding_share,
        fingerprints={each.split.name: fingerprint(each.split.path) for each in (train, valid)},
    )


def _warnings(
    recipe: Recipe, train: TokenizedSplit, valid: TokenizedSplit, positions: int | None
) -> Iterator[str]:
    """What is trained otherwise than written, or not at all; `positions` are the model's."""
    for split in (train, valid):
        yield from _of_split(split)
    if train.overlong.count:
        yield (
            f"{train.overlong.count} of {len(train.split.records)} records are longer than "
            f"max_seq_length {recipe.max_seq_length} and are {_CONSEQUENCES[recipe.overlong]}; "
            "raise it or change overlong."
        )
    if train.plan.untrainable:
        yield (
            f"{train.plan.untrainable} of {len(train.sequences)} records or pieces have no token "
            f"to train within max_seq_length {recipe.max_seq_length} and are omitted; raise it or "
            "set train_on to everything."
        )
    if recipe.val_batches and not valid.plan.trainable:
        yield (
            f"{valid.split.path}: there are no records to validate on; add some, or set "
            "val_batches to 0."
        )
    longest = max(max(each.plan.lengths, default=0) for each in (train, valid))
    if positions is not None and longest > positions:
        yield (
            f"Records of up to {longest} tokens are trained, but {recipe.model} was made for "
            f"{positions}; set max_seq_length to {positions} or choose another model."
        )


def _of_split(split: TokenizedSplit) -> Iterator[str]:
    for loss, count in split.losses.items():
        yield (
            f"{split.split.path}: the chat template leaves out {loss} of {count} records; "
            "check the templated view on the Data screen."
        )
    if split.doubled:
        yield (
            f"{split.split.path}: {split.doubled} records begin with two beginning tokens or "
            "end with two end tokens; remove those that the texts hold."
        )
    if split.refused:
        yield f"{len(split.refused)} records are omitted; the first: {split.refused[0]}"
