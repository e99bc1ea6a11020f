"""Evaluates a model and its adapters on a split: loss and answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

import msgspec

from mlxft import recipe as recipes
from mlxft.compute.arrays import number
from mlxft.compute.generation import batches
from mlxft.compute.generation.chat_model import ChatModel
from mlxft.compute.models.variants import Variant
from mlxft.compute.tokenization import Tokenizer
from mlxft.compute.training.batches import TokenizedSplit, tokenize_split
from mlxft.compute.training.loss import Loss
from mlxft.compute.training.start_checks import answers_with_cache
from mlxft.conversation.messages import Answer, Question, Sampling
from mlxft.conversation.scores import Case, Evaluation, ScoredAnswer, evaluation, scored
from mlxft.data.containers import exists
from mlxft.data.dataset import Split, load_split
from mlxft.data.examples import Example, examples_of
from mlxft.data.model_limits import limits_of
from mlxft.data.split_files import SplitName
from mlxft.errors import DataError
from mlxft.recipe import Recipe

NamedAdapter = tuple[str, Path | None]
"""A title and an adapter's path; None is the base model."""

Answerer = tuple[Variant, Tokenizer]
"""Weights, and the tokenizer that writes their prompts."""

Stage = Literal["evaluating", "answering"]
"""First the losses, then the answers, which take much longer."""

EXAMPLES_AT_ONCE: Final = 64
"""Examples that one model answers before the next one does."""


class EvaluationCancelledError(Exception):
    """The evaluation was cancelled."""


class _Progress:
    """Counts the steps of each stage, and ends the evaluation once it is cancelled."""

    def __init__(
        self, report: Callable[[Stage, int, int], None], cancelled: Callable[[], bool]
    ) -> None:
        self._report = report
        self.cancelled = cancelled
        self._stage: Stage = "evaluating"
        self._done = self._total = 0

    def begin(self, stage: Stage, total: int) -> None:
        """Start a stage."""
        self._stage, self._done, self._total = stage, 0, total

        self._report(stage, 0, total)

    def check(self) -> None:
        """Raise `EvaluationCancelledError` once cancelled."""
        if self.cancelled():
            raise EvaluationCancelledError

    def step(self) -> None:
        """Report a step that is done."""
        self._done += 1
        self._report(self._stage, self._done, self._total)


def evaluate(
    model: ChatModel,
    recipe: Recipe,
    folder: Path,
    split: SplitName,
    adapters: Sequence[NamedAdapter],
    *,
    sampling: Sampling,
    on_progress: Callable[[Stage, int, int], None],
    cancelled: Callable[[], bool],
    limit: int | None = None,
) -> Evaluation:
    """Loss and answers of one or two adapters on a split or its first `limit` records.

    The recipe decides which tokens count, as in training. Once `cancelled`, the answers so far are
    kept; raises `EvaluationCancelledError` if there are none, `DataError` and `ModelError`.
    """
    whole = load_split(folder, split, recipe.columns)
    tokenizer = model.tokenizer_of(adapters[-1][1], recipe.template)
    records = replace(whole, records=whole.records[:limit])
    tokenized = _tokenized(tokenizer, model, recipe, records)
    examples = list(examples_of(whole.path, recipe.columns, limit))
    model.load(*(adapter for _, adapter in adapters))
    variants = [model.variant(adapter) for _, adapter in adapters]
    tokenizers = [model.tokenizer_of(adapter, recipe.template) for _, adapter in adapters]
    progress = _Progress(on_progress, cancelled)
    progress.begin("evaluating", len(adapters) * len(tokenized.plan.epoch(0)))
    losses = [_loss(model, variant, tokenized, progress) for variant in variants]
    answerers = list(zip(variants, tokenizers, strict=True))
    cases = _cases(model, answerers, examples, sampling, progress)
    if examples and not cases:
        raise EvaluationCancelledError
    used, available = len(tokenized.split.records), len(whole.records)
    found = evaluation(
        split,
        records=used,
        tokens=tokenized.trained_tokens,
        losses=[(title, loss) for (title, _), loss in zip(adapters, losses, strict=True)],
        cases=cases,
    )
    return msgspec.structs.replace(
        found,
        of=available if used < available else None,
        max_tokens=sampling.max_tokens,
        unanswered=len(examples) - len(cases),
    )


def _tokenized(
    tokenizer: Tokenizer, model: ChatModel, recipe: Recipe, records: Split
) -> TokenizedSplit:
    """The split, one record per row. Raises `DataError` if no token is trained."""
    alone = recipes.apply_settings(recipe, ("batch_size=1", "packing=false"))
    tokenized = tokenize_split(
        tokenizer, records, alone, seed=0, vocabulary=limits_of(model.path).vocabulary
    )
    if not tokenized.plan.trainable:
        raise DataError(_no_records(records))
    return tokenized


def _no_records(records: Split) -> str:
    """Why there is nothing to evaluate, and what to do."""
    if records.faults and not records.records:
        return str(records.faults[0])
    if not exists(records.path):
        return (
            f"{records.path}: this file is missing; hold records out with split-data, or choose "
            "another --split."
        )
    return (
        f"{records.path}: no record has a trained token; add other records or choose another "
        "--split."
    )


def _loss(
    model: ChatModel, variant: Variant, tokenized: TokenizedSplit, progress: _Progress
) -> float:
    """The mean loss over all trained tokens."""
    variants = model.variants
    variants.use(variant)
    answering = variants.loaded.model
    answering.eval()
    loss_of = Loss(chunked=False, with_cache=answers_with_cache(answering))
    total, tokens = 0.0, 0
    for batch in tokenized.plan.epoch(0):
        progress.check()
        loss, count = loss_of(answering, tokenized.arrays(batch))
        trained = int(number(count))
        total, tokens = total + number(loss) * trained, tokens + trained
        progress.step()
    return total / tokens


def _cases(
    model: ChatModel,
    answerers: Sequence[Answerer],
    examples: Sequence[Example],
    sampling: Sampling,
    progress: _Progress,
) -> list[Case]:
    """The examples answered by every variant until the evaluation is cancelled.

    A few at a time, so that a cancelled evaluation of two models has pairs of answers.
    """
    progress.begin("answering", len(examples) * len(answerers))
    found: list[Case] = []
    for start in range(0, len(examples), EXAMPLES_AT_ONCE):
        part = examples[start : start + EXAMPLES_AT_ONCE]
        replies = [_replies(model, each, part, sampling, progress) for each in answerers]
        found += [
            Case(example.place, example.prompt, example.expected, tuple(together))
            for index, example in enumerate(part)
            if len(together := [each[index] for each in replies if index in each]) == len(answerers)
        ]
    return found


def _replies(
    model: ChatModel,
    answerer: Answerer,
    examples: Sequence[Example],
    sampling: Sampling,
    progress: _Progress,
) -> dict[int, ScoredAnswer]:
    """An answerer's scored answers by the examples' indices."""
    variant, tokenizer = answerer
    found: dict[int, ScoredAnswer] = {}

    def keep(index: int, answer: Answer) -> None:
        cut = answer.finish_reason == "length"
        found[index] = scored(answer.text, examples[index].expected, cut=cut)
        progress.step()

    batches.answer_all(
        model.variants,
        variant,
        tokenizer,
        [Question(example.messages, sampling) for example in examples],
        on_answer=keep,
        cancelled=progress.cancelled,
    )
    return found
