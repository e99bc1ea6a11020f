"""A set of records answered by a model and its adapters, and the loss of each on it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import msgspec

from mlxft import recipe as recipes
from mlxft.compute.arrays import number
from mlxft.compute.generation import answers
from mlxft.compute.generation.answers import Listener, Part
from mlxft.compute.generation.chat_model import ChatModel
from mlxft.compute.generation.prompt_cache import PromptCache
from mlxft.compute.models.variants import Variant
from mlxft.compute.training.batches import TokenizedSplit, tokenize_split
from mlxft.compute.training.loss import plain_loss
from mlxft.conversation.messages import Question, Sampling
from mlxft.conversation.scores import Case, Evaluation, evaluation, judged
from mlxft.data.dataset import Split, SplitName, load_split
from mlxft.data.examples import Example, examples_of
from mlxft.errors import DataError
from mlxft.recipe import Recipe

Side = tuple[str, Path | None]
"""What a side is called, and its adapter; None is the base."""


Stage = Literal["evaluating", "answering"]
"""First the losses, then the answers, of which each takes many times as long."""


class LeftOffError(Exception):
    """Nobody waits for the evaluation any more."""


def evaluate(
    model: ChatModel,
    recipe: Recipe,
    folder: Path,
    split: SplitName,
    sides: Sequence[Side],
    sampling: Sampling,
    on_progress: Callable[[Stage, int, int], None],
    cancelled: Callable[[], bool],
    limit: int | None = None,
) -> Evaluation:
    """Loss and answers of one side, or of two, on a split of a data folder or its first records.

    The recipe decides which tokens count, as in training. Raises `DataError` and `ModelError`, and
    `LeftOffError` after a cancel.
    """
    whole = load_split(folder, split, recipe.columns)
    tokenized = _tokenized(model, recipe, replace(whole, records=whole.records[:limit]))
    examples = list(examples_of(whole.path, recipe.columns, limit))
    model.load(*(adapter for _, adapter in sides))
    variants = [model.variant(adapter) for _, adapter in sides]

    def counted(stage: Stage, total: int) -> Callable[[], None]:
        """Tells before each part of a stage how many are done."""
        parts = itertools.count()

        def advance() -> None:
            if cancelled():
                raise LeftOffError
            on_progress(stage, next(parts), total)

        return advance

    advance = counted("evaluating", len(sides) * len(tokenized.plan.epoch(0)))
    losses = [
        (name, _loss(model, variant, tokenized, advance))
        for (name, _), variant in zip(sides, variants, strict=True)
    ]
    cases = []
    advance = counted("answering", len(examples))
    for example in examples:
        advance()
        cases.append(_case(model, variants, example, sampling, cancelled))
    taken, all_records = len(tokenized.split.records), len(whole.records)
    return msgspec.structs.replace(
        evaluation(split, taken, tokenized.trained_tokens, losses, cases),
        of=all_records if taken < all_records else None,
        max_tokens=sampling.max_tokens,
    )


def _tokenized(model: ChatModel, recipe: Recipe, records: Split) -> TokenizedSplit:
    """The split as rows of one record each. Raises `DataError` where nothing counts."""
    alone = recipes.apply_settings(recipe, ("batch_size=1", "packing=false"))
    tokenized = tokenize_split(model.tokenizer, records, alone, seed=0)
    if not tokenized.plan.trainable:
        raise DataError(_nothing_in(records))
    return tokenized


def _nothing_in(records: Split) -> str:
    """Why there is nothing to evaluate on, and what to do, in a sentence."""
    if records.faults and not records.records:
        return str(records.faults[0])
    return (
        f"{records.path}: no record has a token that counts in training; add records that do or "
        "choose another --split."
    )


def _loss(
    model: ChatModel, variant: Variant, tokenized: TokenizedSplit, advance: Callable[[], None]
) -> float:
    """The mean loss over all tokens that count."""
    variants = model.variants
    variants.use(variant)
    variants.loaded.model.eval()
    total, tokens = 0.0, 0
    for batch in tokenized.plan.epoch(0):
        advance()
        loss, count = plain_loss(variants.loaded.model, tokenized.arrays(batch))
        trained = int(number(count))
        total, tokens = total + number(loss) * trained, tokens + trained
    return total / tokens


def _case(
    model: ChatModel,
    variants: Sequence[Variant],
    example: Example,
    sampling: Sampling,
    cancelled: Callable[[], bool],
) -> Case:
    """An example answered by each side; nothing of the one before is used."""
    question = Question(example.messages, sampling)
    listener = Listener(lambda _: None, cancelled)
    parts = [Part(question, variant, listener, PromptCache()) for variant in variants]
    replies = answers.generate_together(model.variants, model.tokenizer, parts)
    if cancelled():
        raise LeftOffError
    scored = tuple(
        judged(answer.text, example.expected, cut=answer.finish_reason == "length")
        for answer in replies
    )
    return Case(example.place, example.prompt, example.expected, scored)
