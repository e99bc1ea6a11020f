"""Answers many questions at once: each pass over the weights generates a token of every answer.

Generating is limited by reading the weights, so a batch of answers takes little longer than one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any, Final

import mlx.core as mx
from mlx_lm.generate import BatchGenerator
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.sample_utils import make_sampler

from mlxft.compute import backend
from mlxft.compute.arrays import number
from mlxft.compute.generation import answers
from mlxft.compute.generation.answers import FinishReason, GenerationRequest, Listener
from mlxft.compute.generation.prompt_cache import PromptCache
from mlxft.compute.models.loading import LoadedModel
from mlxft.compute.models.variants import Variant, Variants
from mlxft.compute.seeds import step_seed
from mlxft.compute.tokenization import Tokenizer
from mlxft.conversation.messages import Answer, Question
from mlxft.conversation.sampling import check_sampling
from mlxft.conversation.stop_strings import StopStrings
from mlxft.errors import ModelError

MOST_ROWS: Final[dict[str, int]] = {"cpu": 16, "cuda": 32, "metal": 32}

MOST_CONTEXT_TOKENS: Final = 16_384
"""Tokens of all rows together at their longest: 2 GB of keys and values for an 8B model."""

PREFILL_ROWS: Final = 8
PREFILL_TOKENS: Final[dict[str, int]] = {"cpu": 64, "cuda": 1024, "metal": 256}
"""Prompt tokens of each row processed at once; cancelling takes effect in between."""

MOST_ERROR: Final[dict[Any, float]] = {mx.float32: 1e-3}
"""The largest mean error of a batch's log-probabilities, by the type they are computed in."""
MOST_ERROR_HALF: Final = 0.1

_COMPARED_TOKENS: Final = 2
_LONGEST_COMPARED: Final = 512

OnAnswer = Callable[[int, Answer], None]
"""Gets a question's number, and its answer as soon as it is complete."""


def answer_all(
    variants: Variants,
    variant: Variant,
    tokenizer: Tokenizer,
    questions: Sequence[Question],
    *,
    on_answer: OnAnswer,
    cancelled: Callable[[], bool],
) -> None:
    """Answer questions with a variant, in any order; restores the model's variant.

    Greedy answers are those that each question has on its own. Once `cancelled`, answers that are
    not complete are dropped. Raises `ModelError` for a question the model can't take.
    """
    model, before = variants.loaded.model, variants.present
    was_training = model.training
    rows = _rows(variants.loaded, tokenizer, questions)
    variants.use(variant)
    model.eval()
    try:
        if len(rows) > 1 and _answers_in_batches(model, [row.prompt for row in rows]):
            _in_batches(model, tokenizer, rows, on_answer, cancelled)
        else:
            _one_by_one(variants, variant, tokenizer, questions, on_answer, cancelled)
    finally:
        variants.use(before)
        model.train(was_training)


def _one_by_one(
    variants: Variants,
    variant: Variant,
    tokenizer: Tokenizer,
    questions: Sequence[Question],
    on_answer: OnAnswer,
    cancelled: Callable[[], bool],
) -> None:
    listener = Listener(lambda _: None, cancelled)
    for index, question in enumerate(questions):
        request = GenerationRequest(question, variant, listener, PromptCache(), tokenizer)
        (answer,) = answers.generate_together(variants, [request])
        if answer.finish_reason == "cancelled":
            return
        on_answer(index, answer)


def _rows(loaded: LoadedModel, tokenizer: Tokenizer, questions: Sequence[Question]) -> list[_Row]:
    """Raises `ModelError` naming the question that the model can't take."""
    rows = []
    for index, question in enumerate(questions):
        try:
            rows.append(_Row(loaded, tokenizer, index, question))
        except ModelError as error:
            raise ModelError(f"Prompt {index + 1} of {len(questions)}: {error}") from error
    return rows


class _Row:
    """A question, and its answer as far as it is generated."""

    def __init__(
        self, loaded: LoadedModel, tokenizer: Tokenizer, index: int, question: Question
    ) -> None:
        """Raises `ModelError`."""
        self.index, self.sampling = index, question.sampling
        check_sampling(self.sampling, loaded.vocabulary or len(tokenizer))
        self.prompt = answers.prompt_tokens(tokenizer, question, loaded.vocabulary)
        self.limit = min(self.sampling.max_tokens, answers.tokens_left(loaded, len(self.prompt)))
        self._context_length = loaded.context_length
        self._detokenizer = tokenizer.detokenizer
        self._stops = StopStrings(self.sampling.stop)
        self._text: list[str] = []
        self._generated = 0
        self._started = time.perf_counter()
        self._first_token_seconds = 0.0

    def take(self, token: int, finished: FinishReason | None) -> FinishReason | None:
        """Add a token; why the answer is complete, if it is."""
        self._generated += 1
        self._first_token_seconds = self._first_token_seconds or self._seconds
        if finished != "stop":
            self._detokenizer.add_token(token)
        if finished:
            self._detokenizer.finalize()
        self._text.append(self._stops.filter(self._detokenizer.last_segment))
        return "stop" if self._stops.found else finished

    @property
    def _seconds(self) -> float:
        return time.perf_counter() - self._started

    def answer(self, reason: FinishReason) -> Answer:
        """The answer, once complete."""
        seconds, first = self._seconds, self._first_token_seconds
        generating = seconds - first
        return Answer(
            text="".join((*self._text, self._stops.flush())),
            finish_reason=reason,
            prompt_tokens=len(self.prompt),
            generated_tokens=self._generated,
            prompt_speed=len(self.prompt) / first if first else 0.0,
            generation_speed=(self._generated - 1) / generating if generating > 0 else 0.0,
            seconds=seconds,
            first_token_seconds=first,
            context_length=self._context_length,
        )


class _SeededSampler:
    """Samples one row's tokens, whatever the other rows sample in between."""

    def __init__(self, row: _Row) -> None:
        given = row.sampling
        self._seed, self._count = given.seed, 0
        self._sample = make_sampler(given.temperature, given.top_p, given.min_p, top_k=given.top_k)

    def __call__(self, logprobs: mx.array) -> mx.array:
        mx.random.seed(step_seed(self._seed, self._count))
        self._count += 1
        sampled: mx.array = self._sample(logprobs)
        return sampled


def _in_batches(
    model: Any,
    tokenizer: Tokenizer,
    rows: Sequence[_Row],
    on_answer: OnAnswer,
    cancelled: Callable[[], bool],
) -> None:
    """Answer in batches that a new row joins whenever an answer is complete."""
    together = _rows_together(rows)
    with _generator(model, tokenizer, together) as generator:
        # Prompts of like length that begin together need little padding.
        ordered = sorted(rows, key=lambda row: len(row.prompt))
        numbers = generator.insert(
            [list(row.prompt) for row in ordered],
            [row.limit for row in ordered],
            samplers=[_SeededSampler(row) if row.sampling.temperature else None for row in ordered],
            logits_processors=[answers.processors(row.sampling, ()) for row in ordered],
        )
        unfinished = dict(zip(numbers, ordered, strict=True))
        while unfinished and not cancelled():
            _, responses = generator.next()
            for response in responses:
                row = unfinished[response.uid]
                reason = row.take(response.token, response.finish_reason)
                if reason is None:
                    continue
                del unfinished[response.uid]
                if response.finish_reason is None:
                    generator.remove([response.uid])
                on_answer(row.index, row.answer(reason))


def _rows_together(rows: Sequence[_Row]) -> int:
    """How many rows fit into a batch."""
    longest = max(len(row.prompt) + row.limit for row in rows)
    return max(1, min(MOST_ROWS[backend.kind()], MOST_CONTEXT_TOKENS // longest))


def _generator(model: Any, tokenizer: Tokenizer | None, rows: int) -> closing[Any]:
    """mlx_lm's generator, which no end token ends without a tokenizer."""
    ends = tokenizer.eos_token_ids if tokenizer is not None else ()
    generator = BatchGenerator(
        model,
        stop_tokens=[[each] for each in ends],
        completion_batch_size=rows,
        prefill_batch_size=min(PREFILL_ROWS, rows),
        prefill_step_size=PREFILL_TOKENS[backend.kind()],
    )
    return closing(generator)


def _answers_in_batches(model: Any, prompts: Sequence[Sequence[int]]) -> bool:
    """Whether two prompts of different length have the same log-probabilities in a batch as alone.

    Some models don't mask a batch's padding, or keep a state that can't be batched.
    """
    if not all(hasattr(each, "merge") for each in make_prompt_cache(model)):
        return False
    ordered = sorted(prompts, key=len)
    longer = [each for each in ordered[1:] if len(each) <= _LONGEST_COMPARED] or ordered[1:2]
    try:
        together = list(_together(model, [ordered[0], longer[-1]]))
    except Exception:  # a model's own code may raise anything
        return False
    return all(_agrees(model, *each) for each in together)


def _together(model: Any, prompts: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], mx.array]]:
    """The tokens before each generated token, and its log-probabilities in a batch."""
    with _generator(model, None, len(prompts)) as generator:
        numbers = generator.insert([list(each) for each in prompts], [_COMPARED_TOKENS] * 2)
        before = dict(zip(numbers, map(list, prompts), strict=True))
        while before:
            _, responses = generator.next()
            for response in responses:
                yield list(before[response.uid]), response.logprobs
                before[response.uid].append(response.token)
                if response.finish_reason:
                    del before[response.uid]


def _agrees(model: Any, tokens: list[int], logprobs: mx.array) -> bool:
    """Whether these are the log-probabilities after these tokens."""
    cache = make_prompt_cache(model)
    logits = model(mx.array([tokens]), cache=cache)[0, -1]
    alone = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    error = mx.abs((alone - logprobs).astype(mx.float32)).mean()
    return number(error) <= MOST_ERROR.get(logits.dtype, MOST_ERROR_HALF)
