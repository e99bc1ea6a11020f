"""Answers many questions at once: each pass over the weights generates a token of every answer.

Generating is limited by reading the weights, so a batch of answers takes little longer than one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
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
from mlxft.compute.generation.prompt_cache import PromptCache, SharedPrefix
from mlxft.compute.models.loading import LoadedModel
from mlxft.compute.models.variants import Variant, Variants
from mlxft.compute.seeds import step_seed
from mlxft.compute.tokenization import Tokenizer
from mlxft.conversation.messages import Answer, Question
from mlxft.conversation.sampling import check_sampling
from mlxft.conversation.stop_strings import StopStrings
from mlxft.errors import ModelError

MOST_ROWS: Final = 32

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
        prefix = _usable_prefix(model, [row.prompt for row in rows], cancelled)
        if prefix is not None:
            _in_batches(model, tokenizer, rows, prefix, on_answer, cancelled)
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
    prefix: SharedPrefix,
    on_answer: OnAnswer,
    cancelled: Callable[[], bool],
) -> None:
    """Answer in batches that a new row joins whenever an answer is complete."""
    known = len(prefix.tokens)
    with _generator(model, tokenizer, _rows_together(rows)) as generator:
        # Prompts of like length that begin together need little padding.
        ordered = sorted(rows, key=lambda row: len(row.prompt))
        numbers = generator.insert(
            [list(row.prompt[known:]) for row in ordered],
            [row.limit for row in ordered],
            caches=[prefix.layers] * len(ordered),
            samplers=[_SeededSampler(row) if row.sampling.temperature else None for row in ordered],
            logits_processors=[answers.processors(row.sampling, prefix.tokens) for row in ordered],
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
    return max(1, min(MOST_ROWS, MOST_CONTEXT_TOKENS // longest))


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


def _usable_prefix(
    model: Any, prompts: Sequence[tuple[int, ...]], cancelled: Callable[[], bool]
) -> SharedPrefix | None:
    """What all prompts begin with, perhaps nothing, for answers in batches; None if the model can't
    generate them.

    Some models don't mask a batch's padding, or keep a state that can't be batched.
    """
    if len(prompts) < 2 or not all(hasattr(each, "merge") for each in make_prompt_cache(model)):
        return None
    at_once = PREFILL_TOKENS[backend.kind()]
    prefix = SharedPrefix.of(model, prompts, at_once=at_once, cancelled=cancelled)
    for each in (prefix, SharedPrefix()) if prefix.tokens else (prefix,):
        if _answers_in_batches(model, prompts, each):
            return each
    return None


def _answers_in_batches(
    model: Any, prompts: Sequence[tuple[int, ...]], prefix: SharedPrefix
) -> bool:
    """Whether two prompts of different length have the same log-probabilities in a batch as
    alone."""
    ordered = sorted(prompts, key=len)
    longer = [each for each in ordered[1:] if len(each) <= _LONGEST_COMPARED] or ordered[1:2]
    try:
        together = _together(model, [ordered[0], longer[-1]], prefix)
    except Exception:  # a model's own code may raise anything
        return False
    return all(_agrees(model, *each) for each in together)


def _together(
    model: Any, prompts: Sequence[tuple[int, ...]], prefix: SharedPrefix
) -> list[tuple[list[int], list[mx.array]]]:
    """Each prompt with all tokens generated in a batch but the last, and the log-probabilities of
    all."""
    with _generator(model, None, len(prompts)) as generator:
        numbers = generator.insert(
            [list(each[len(prefix.tokens) :]) for each in prompts],
            [_COMPARED_TOKENS] * len(prompts),
            caches=[prefix.layers] * len(prompts),
        )
        found: dict[int, tuple[list[int], list[mx.array]]] = {
            number: (list(prompt), []) for number, prompt in zip(numbers, prompts, strict=True)
        }
        unfinished = set(numbers)
        while unfinished:
            _, responses = generator.next()
            for response in responses:
                tokens, logprobs = found[response.uid]
                logprobs.append(response.logprobs)
                if response.finish_reason:
                    unfinished.remove(response.uid)
                else:
                    tokens.append(response.token)
    return list(found.values())


def _agrees(model: Any, tokens: list[int], logprobs: list[mx.array]) -> bool:
    """Whether these are the log-probabilities after the last of these tokens, one each."""
    cache = make_prompt_cache(model)
    logits = model(mx.array([tokens]), cache=cache)[0, -len(logprobs) :]
    alone = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    errors = mx.abs((alone - mx.stack(logprobs)).astype(mx.float32)).mean(axis=-1)
    return number(errors.max()) <= MOST_ERROR.get(logits.dtype, MOST_ERROR_HALF)
