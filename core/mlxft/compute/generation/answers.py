"""Generates answers token by token, one or several interleaved."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import mlx.core as mx
from mlx_lm.generate import stream_generate
from mlx_lm.sample_utils import make_logits_processors, make_sampler

from mlxft.compute.generation.prompt_cache import PromptCache
from mlxft.compute.models.loading import LoadedModel
from mlxft.compute.models.variants import Variant, Variants
from mlxft.compute.seeds import step_seed
from mlxft.compute.tokenization import Tokenizer, first_line, render_prompt
from mlxft.conversation.messages import Answer, Question, Sampling
from mlxft.conversation.sampling import check_sampling
from mlxft.conversation.stop_strings import StopStrings
from mlxft.errors import ModelError

PREFILL_TOKENS = 256
"""Prompt tokens processed at once; cancelling takes effect between these chunks."""

FinishReason = Literal["stop", "length", "cancelled"]


class _CancelledError(Exception):
    """Cancelled while the prompt was processed."""


def _ignore_prefill(done: int, total: int) -> None:
    """The default `on_prefill`."""


def _ignore_answer(answer: Answer) -> None:
    """The default `on_answer`."""


@dataclass(frozen=True)
class Listener:
    """Callbacks of whoever asked.

    `on_text` gets whole characters, `on_prefill` the processed and total prompt tokens, and
    `on_answer` each answer as soon as it is complete.
    """

    on_text: Callable[[str], None]
    cancelled: Callable[[], bool]
    on_prefill: Callable[[int, int], None] = _ignore_prefill
    on_answer: Callable[[Answer], None] = _ignore_answer


@dataclass(frozen=True)
class GenerationRequest:
    """A question with the weights that answer it, and the tokenizer that writes its prompt."""

    question: Question
    variant: Variant
    listener: Listener
    cache: PromptCache
    tokenizer: Tokenizer


def generate(
    loaded: LoadedModel, tokenizer: Tokenizer, question: Question, listener: Listener
) -> Answer:
    """Answer a question with the model as it is, until it ends, hits a limit, or is cancelled.

    Raises `ModelError` for a conversation or sampling the model can't take.
    """
    variant = Variant()
    request = GenerationRequest(question, variant, listener, PromptCache(), tokenizer)
    return generate_together(Variants(loaded, variant), [request])[0]


def generate_together(
    variants: Variants, requests: Sequence[GenerationRequest]
) -> tuple[Answer, ...]:
    """Answer several questions, one token of each in turn; restores the model's variant.

    Each answer is the same as on its own: weights and random state are switched between tokens.
    Raises `ModelError`.
    """
    model, before = variants.loaded.model, variants.present
    was_training = model.training
    generations = [_Generation(variants.loaded, each) for each in requests]
    model.eval()
    try:
        with ExitStack() as closing:
            # A generator must be closed in the thread of its MLX stream.
            for each in generations:
                closing.callback(each.close)
            unfinished = generations
            while unfinished:
                unfinished = [each for each in unfinished if each.advance(variants)]
    finally:
        variants.use(before)
        model.train(was_training)
    return tuple(each.answer() for each in generations)


class _Generation:
    """An answer being generated."""

    def __init__(self, loaded: LoadedModel, request: GenerationRequest) -> None:
        """Raises `ModelError`."""
        started = time.perf_counter()
        tokenizer = request.tokenizer
        self._request, self._sampling = request, request.question.sampling
        check_sampling(self._sampling, loaded.vocabulary or len(tokenizer))
        self._prompt = prompt_tokens(tokenizer, request.question, loaded.vocabulary)
        self._context_length = loaded.context_length
        limit = min(self._sampling.max_tokens, tokens_left(loaded, len(self._prompt)))
        self._layers, self._reused = request.cache.begin(loaded.model, self._prompt)
        self._responses = self._stream(loaded.model, tokenizer, limit)
        self._stops = StopStrings(self._sampling.stop)
        self._text: list[str] = []
        self._tokens: list[int] = []
        self._last: Any = None
        self._reason: FinishReason = "cancelled"
        self._closed = False
        # Counts only this answer's own share of the time when answers are interleaved.
        self._own_seconds = time.perf_counter() - started
        self._first_token_seconds = 0.0
        self._first_token_at = self._last_token_at = started

    def advance(self, variants: Variants) -> bool:
        """Generate the next token; False after the last one, when the answer is reported."""
        started = time.perf_counter()
        unfinished = self._advance(variants)
        now = time.perf_counter()
        self._own_seconds += now - started
        if len(self._tokens) == 1 and not self._first_token_seconds:
            self._first_token_seconds, self._first_token_at = self._own_seconds, now
        self._last_token_at = now
        if not unfinished:
            self.close()
            self._request.listener.on_answer(self.answer())
        return unfinished

    def _advance(self, variants: Variants) -> bool:
        variants.use(self._request.variant)
        if self._sampling.temperature:
            # Seeded per token, so that other sampling in between changes nothing.
            mx.random.seed(step_seed(self._sampling.seed, len(self._tokens)))
        try:
            response = next(self._responses)
        except (StopIteration, _CancelledError):
            return False
        self._last = response
        self._tokens.append(response.token)
        self._write(self._stops.filter(response.text))
        if self._stops.found or response.finish_reason is not None:
            self._reason = "stop" if self._stops.found else response.finish_reason
            return False
        return not self._request.listener.cancelled()

    def close(self) -> None:
        """End the stream and keep the cache for the next turn."""
        if self._closed:
            return
        self._closed = True
        self._responses.close()
        self._request.cache.keep(self._layers, (*self._prompt, *self._tokens))
        self._write(self._stops.flush())

    @property
    def _generation_speed(self) -> float:
        """mlx_lm's speed, which includes waiting for the other answers, scaled to this one."""
        speed = float(self._last.generation_tps) if self._last else 0.0
        own = self._own_seconds - self._first_token_seconds
        return speed * (self._last_token_at - self._first_token_at) / own if own > 0 else speed

    def answer(self) -> Answer:
        """The answer, once finished."""
        last = self._last
        return Answer(
            text="".join(self._text),
            finish_reason=self._reason,
            prompt_tokens=len(self._prompt),
            generated_tokens=len(self._tokens),
            prompt_speed=last.prompt_tps if last else 0.0,
            generation_speed=self._generation_speed,
            seconds=self._own_seconds,
            reused_tokens=self._reused,
            first_token_seconds=self._first_token_seconds,
            context_length=self._context_length,
        )

    def _write(self, text: str) -> None:
        if text:
            self._text.append(text)
            self._request.listener.on_text(text)

    def _stream(self, model: Any, tokenizer: Tokenizer, limit: int) -> Any:
        """mlx_lm's responses; raises `_CancelledError` if cancelled during prefill."""
        sampling, cached = self._sampling, self._prompt[: self._reused]
        return stream_generate(
            model,
            tokenizer,
            list(self._prompt[self._reused :]),
            max_tokens=limit,
            sampler=make_sampler(
                sampling.temperature, sampling.top_p, sampling.min_p, top_k=sampling.top_k
            ),
            logits_processors=processors(sampling, cached),
            prompt_cache=self._layers,
            prefill_step_size=PREFILL_TOKENS,
            prompt_progress_callback=self._prefilled,
        )

    def _prefilled(self, done: int, total: int) -> None:
        listener = self._request.listener
        if listener.cancelled():
            raise _CancelledError
        if total > PREFILL_TOKENS:
            listener.on_prefill(self._reused + done, self._reused + total)


def prompt_tokens(
    tokenizer: Tokenizer, question: Question, vocabulary: int | None
) -> tuple[int, ...]:
    """The conversation as the model reads it before its answer.

    Raises `ModelError`, also for a token beyond the model's `vocabulary`.
    """
    messages = [{"role": each.role, "content": each.content} for each in question.messages]
    if not messages:
        raise ModelError("The conversation is empty; write a message first.")
    try:
        prompt = render_prompt(tokenizer, messages)
    except Exception as error:  # chat templates run arbitrary code
        raise ModelError(
            f"The model's chat template rejects this conversation ({first_line(error)}); "
            "start a new one or remove the system prompt."
        ) from error
    if not prompt:
        raise ModelError("The conversation is empty; write a message first.")
    if vocabulary is not None and (highest := max(prompt)) >= vocabulary:
        # The model has no embedding for it: a GPU reads garbage.
        raise ModelError(
            f"The conversation has token {highest}, but the model's vocab_size is {vocabulary}; "
            "choose the model that the tokenizer belongs to, or remove what makes that token."
        )
    return prompt


def tokens_left(loaded: LoadedModel, prompt_tokens: int) -> int:
    """How many tokens fit into the context after the prompt. Raises `ModelError` if none do."""
    if loaded.context_length is None:
        return sys.maxsize
    left = loaded.context_length - prompt_tokens
    if left < 1:
        raise ModelError(
            f"The conversation has {prompt_tokens} tokens and the model's context is "
            f"{loaded.context_length}; start a new one or shorten it."
        )
    return left


def processors(sampling: Sampling, cached: tuple[int, ...]) -> list[Any]:
    """The logits processors; they must see the `cached` prompt tokens too, which mlx_lm doesn't."""
    if sampling.repetition_penalty == 1:
        return []
    (penalize,) = make_logits_processors(repetition_penalty=sampling.repetition_penalty)
    before = mx.array(cached, mx.int32)
    return [lambda tokens, logits: penalize(mx.concatenate([before, tokens]), logits)]
