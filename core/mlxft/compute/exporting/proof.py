"""Compares exported weights with the model and adapter that they came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mlxft.compute.generation import batches
from mlxft.compute.generation.answers import prompt_tokens
from mlxft.compute.models.variants import Variant, Variants
from mlxft.compute.tokenization import Tokenizer
from mlxft.conversation.messages import Answer, Message, Question, Sampling
from mlxft.data import spans
from mlxft.data.spans import Spans
from mlxft.export.types import Proof

Values = np.ndarray[Any, np.dtype[Any]]

RECORDS: Final = 16
LONGEST: Final = 512
"""Tokens of a record that are compared."""
POSITIONS: Final = 256
"""Trained positions compared in all: their logits are kept in memory."""
QUESTIONS: Final = 8
ANSWER_TOKENS: Final = 32

OWN_PROMPTS: Final = (
    "Name three colours.",
    "What is the capital of France?",
    "Write one sentence about the sea.",
    "Count from one to five.",
)
"""Questions for an adapter whose data are not there."""


@dataclass(frozen=True)
class Row:
    """A record's tokens, and which of them are trained."""

    tokens: tuple[int, ...]
    spans: Spans


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What weights are compared on."""

    source: str
    rows: tuple[Row, ...]
    questions: tuple[Question, ...]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Logits (positions, vocabulary) at the trained positions, their loss, and greedy answers."""

    logits: np.ndarray[Any, np.dtype[np.float32]]
    loss: float
    answers: tuple[str, ...]


def questions_of(messages: Sequence[tuple[Message, ...]]) -> tuple[Question, ...]:
    """The first conversations as questions that are answered greedily."""
    sampling = Sampling(max_tokens=ANSWER_TOKENS)
    return tuple(Question(each, sampling) for each in messages[:QUESTIONS])


def steps_of(sample: Sample) -> int:
    """How often a measurement reports that it has come further."""
    return len(_compared(sample.rows)) + len(sample.questions)


def own_sample(variants: Variants, variant: Variant, tokenizer: Tokenizer) -> Sample:
    """A sample where there is no data: the variant's own answers to a few questions."""
    questions = questions_of([(Message("user", prompt),) for prompt in OWN_PROMPTS])
    rows = []
    for question, answer in zip(
        questions, answered(variants, variant, tokenizer, questions), strict=True
    ):
        prompt = prompt_tokens(tokenizer, question, variants.loaded.vocabulary)
        tokens = (*prompt, *tokenizer.encode(answer, add_special_tokens=False))
        # An empty answer leaves the prompt to compare.
        first = len(prompt) if len(tokens) > len(prompt) else 1
        rows.append(Row(tokens, spans.from_index(first, len(tokens))))
    return Sample(source="own", rows=tuple(rows), questions=questions)


def measure(
    variants: Variants,
    variant: Variant,
    tokenizer: Tokenizer,
    sample: Sample,
    on_step: Callable[[], None],
) -> Measured:
    """Logits, loss and answers of a variant; `on_step` is called `steps_of` times."""
    model, before = variants.loaded.model, variants.present
    variants.use(variant)
    model.eval()
    try:
        parts, targets = zip(*_logits(model, sample.rows, on_step), strict=True)
    finally:
        variants.use(before)
    logits, wanted = np.concatenate(parts), np.concatenate(targets)
    return Measured(
        logits=logits,
        loss=_loss(logits, wanted),
        answers=answered(variants, variant, tokenizer, sample.questions, on_step),
    )


def answered(
    variants: Variants,
    variant: Variant,
    tokenizer: Tokenizer,
    questions: Sequence[Question],
    on_step: Callable[[], None] = lambda: None,
) -> tuple[str, ...]:
    """A variant's answers."""
    found: dict[int, Answer] = {}

    def on_answer(index: int, answer: Answer) -> None:
        found[index] = answer
        on_step()

    batches.answer_all(
        variants,
        variant,
        tokenizer,
        questions,
        on_answer=on_answer,
        cancelled=lambda: False,
    )
    return tuple(found[index].text for index in range(len(questions)))


def _logits(
    model: Any, rows: Sequence[Row], on_step: Callable[[], None]
) -> list[tuple[Values, Values]]:
    """Each row's logits at its trained positions with the tokens that follow there."""
    found = []
    for row, trained in _compared(rows):
        before = mx.array(trained - 1)
        logits = model(mx.array([row.tokens[: int(trained[-1])]]))[0, before].astype(mx.float32)
        found.append((np.array(logits), np.array(row.tokens)[trained]))
        on_step()
    return found


def compared(sample: Sample) -> int:
    """The number of records that are compared."""
    return len(_compared(sample.rows))


def _compared(rows: Sequence[Row]) -> list[tuple[Row, NDArray[np.int64]]]:
    """The rows that are compared, each with the indices of its trained tokens."""
    found, left = [], POSITIONS
    for row in rows[:RECORDS]:
        length = min(len(row.tokens), LONGEST)
        trained = np.flatnonzero(spans.weights(row.spans, len(row.tokens))[:length])[:left]
        if len(trained):
            found.append((row, trained))
            left -= len(trained)
    return found


def _loss(logits: Values, targets: Values) -> float:
    wide = logits.astype(np.float64)
    highest = wide.max(axis=1)
    sums = highest + np.log(np.exp(wide - highest[:, None]).sum(axis=1))
    return float((sums - wide[np.arange(len(targets)), targets]).mean())


def proof(sample: Sample, base: Measured, adapted: Measured, exported: Measured) -> Proof:
    """What distinguishes the exported weights from the model with its adapter."""
    width = min(adapted.logits.shape[1], exported.logits.shape[1])
    differences = np.abs(adapted.logits[:, :width] - exported.logits[:, :width])
    pairs = zip(adapted.answers, exported.answers, strict=True)
    return Proof(
        source=sample.source,
        records=len(_compared(sample.rows)),
        positions=len(differences),
        largest_difference=float(differences.max()),
        mean_difference=float(differences.mean()),
        base_loss=base.loss,
        loss=adapted.loss,
        exported_loss=exported.loss,
        answers=len(adapted.answers),
        same_answers=sum(ours == theirs for ours, theirs in pairs),
    )
