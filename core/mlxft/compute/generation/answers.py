"""Answers: conversations continued by a model, token by token, one or two at a time."""

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
from mlxft.compute.tokenization import Tokenizer, first_line, render
from mlxft.conversation.messages import Answer, Question, Sampling
from mlxft.conversation.sampling import check_sampling
from mlxft.conversation.stop_strings import StopStrings
from mlxft.errors import ModelError

PREFILL_TOKENS = 256
"""Prompt tokens computed at once; a cancel is noticed between two of these."""

_FinishReason = Literal["stop", "length", "cancelled"]


class _CancelledError(Exception):
    """The prompt's computation was left off."""


def _unheard(done: int, total: int) -> None:
    """Nobody follows how far the prompt is."""


def _untold(answer: Answer) -> None:
    """Nobody waits for an answer before all have ended."""


@dataclass(frozen=True)
class Listener:
    """The way back to who asked: text in whole characters, the prompt's tokens done of all, and
    the answer as soon as it has ended."""

    on_text: Callable[[str], None]
    cancelled: Callable[[], bool]
    on_prefill: Callable[[int, int], None] = _unheard
    on_answer: Callable[[Answer], None] = _untold


@dataclass(frozen=True)
class Part:
    """A question, who is to answer it, and the way back."""

    question: Question
    variant: Variant
    listener: Listener
    cache: PromptCache


def generate(
    loaded: LoadedModel, tokenizer: Tokenizer, question: Question, listener: Listener
) -> Answer:
    """Answer a question with the model as it is, until its end, a limit, or a cancel.

    Raises `ModelError` for a conversation or a sampling that the model can't take.
    """
    variant = Variant()
    part = Part(question, variant, listener, PromptCache())
    return generate_together(Variants(loaded, variant), tokenizer, [part])[0]


def generate_together(
    variants: Variants, tokenizer: Tokenizer, parts: Sequence[Part]
) -> tuple[Answer, ...]:
    """Answer several questions, a token of each in turn; the model ends as the variant it was.

    Each answer is what it would be alone: the weights and the random state are exchanged between
    two tokens. Raises `ModelError`.
    """
    model, before = variants.loaded.model, variants.present
    was_training = model.training
    writings = [_Writing(variants.loaded, tokenizer, part) for part in parts]
    model.eval()
    try:
        with ExitStack() as closing:
            # Closed here, since a generator must end in the thread of its stream.
            for each in writings:
                closing.callback(each.close)
            waiting = writings
            while waiting:
                waiting = [each for each in waiting if each.goes_on(variants)]
    finally:
        variants.use(before)
        model.train(was_training)
    return tuple(each.answer() for each in writings)


class _Writing:
    """One answer on its way."""

    def __init__(self, loaded: LoadedModel, tokenizer: Tokenizer, part: Part) -> None:
        """Raises `ModelError`."""
        started = time.perf_counter()
        self._part, self._sampling = part, part.question.sampling
        check_sampling(self._sampling, loaded.vocabulary or len(tokenizer))
        self._prompt = _prompt(tokenizer, part.question)
        self._context_length = loaded.context_length
        limit = min(self._sampling.max_tokens, _room(loaded, len(self._prompt)))
        self._layers, self._reused = part.cache.begin(loaded.model, self._prompt)
        self._responses = self._stream(loaded.model, tokenizer, limit)
        self._stops = StopStrings(self._sampling.stop)
        self._text: list[str] = []
        self._tokens: list[int] = []
        self._last: Any = None
        self._reason: _FinishReason = "cancelled"
        self._closed = False
        # An answer's time is its own: beside another it waits for half of the time.
        self._own_seconds = time.perf_counter() - started
        self._first_token_seconds = 0.0
        self._first_token_at = self._last_token_at = started

    def goes_on(self, variants: Variants) -> bool:
        """Write the next token; False once that was the last, and the answer is told."""
        started = time.perf_counter()
        goes_on = self._advances(variants)
        now = time.perf_counter()
        self._own_seconds += now - started
        if len(self._tokens) == 1 and not self._first_token_seconds:
            self._first_token_seconds, self._first_token_at = self._own_seconds, now
        self._last_token_at = now
        if not goes_on:
            self.close()
            self._part.listener.on_answer(self.answer())
        return goes_on

    def _advances(self, variants: Variants) -> bool:
        variants.use(self._part.variant)
        if self._sampling.temperature:
            # By its number, so that nothing drawn between two tokens changes an answer.
            mx.random.seed(step_seed(self._sampling.seed, len(self._tokens)))
        try:
            response = next(self._responses)
        except (StopIteration, _CancelledError):
            return False
        self._last = response
        self._tokens.append(response.token)
        self._write(self._stops.passed(response.text))
        if self._stops.found or response.finish_reason is not None:
            self._reason = "stop" if self._stops.found else response.finish_reason
            return False
        return not self._part.listener.cancelled()

    def close(self) -> None:
        """End the stream and keep what was computed for the next turn."""
        if self._closed:
            return
        self._closed = True
        self._responses.close()
        self._part.cache.keep(self._layers, (*self._prompt, *self._tokens))
        self._write(self._stops.rest())

    @property
    def _generation_speed(self) -> float:
        """mlx_lm's speed, which is that of all who write together, as it is for this answer."""
        speed = float(self._last.generation_tps) if self._last else 0.0
        own = self._own_seconds - self._first_token_seconds
        return speed * (self._last_token_at - self._first_token_at) / own if own > 0 else speed

    def answer(self) -> Answer:
        """What came out, after the end."""
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
            self._part.listener.on_text(text)

    def _stream(self, model: Any, tokenizer: Tokenizer, limit: int) -> Any:
        """mlx_lm's stream of responses; a cancel while the prompt is computed raises."""
        sampling, known = self._sampling, self._prompt[: self._reused]
        return stream_generate(
            model,
            tokenizer,
            list(self._prompt[self._reused :]),
            max_tokens=limit,
            sampler=make_sampler(
                sampling.temperature, sampling.top_p, sampling.min_p, top_k=sampling.top_k
            ),
            logits_processors=_processors(sampling, known),
            prompt_cache=self._layers,
            prefill_step_size=PREFILL_TOKENS,
            prompt_progress_callback=self._prefilled,
        )

    def _prefilled(self, done: int, total: int) -> None:
        listener = self._part.listener
        if listener.cancelled():
            raise _CancelledError
        if total > PREFILL_TOKENS:
            listener.on_prefill(self._reused + done, self._reused + total)


def _prompt(tokenizer: Tokenizer, question: Question) -> tuple[int, ...]:
    messages = [{"role": each.role, "content": each.content} for each in question.messages]
    if not messages:
        raise ModelError("There is nothing to answer; write a message first.")
    try:
        prompt = render(tokenizer, messages, answering=True)
    except Exception as error:  # a chat template is a program of the model's author
        raise ModelError(
            f"The model's chat template refuses this conversation ({first_line(error)}); "
            "start a new one or leave out the system message."
        ) from error
    if not prompt:
        raise ModelError("There is nothing to answer; write a message first.")
    return prompt


def _room(loaded: LoadedModel, prompt_tokens: int) -> int:
    """How many tokens fit after the prompt. Raises `ModelError` if there are none."""
    if loaded.context_length is None:
        return sys.maxsize
    room = loaded.context_length - prompt_tokens
    if room < 1:
        raise ModelError(
            f"The conversation is {prompt_tokens} tokens long, and the model takes "
            f"{loaded.context_length}; start a new one or shorten it."
        )
    return room


def _processors(sampling: Sampling, known: tuple[int, ...]) -> list[Any]:
    """What changes the logits; `known` are the tokens of the prompt that are not computed again."""
    if sampling.repetition_penalty == 1:
        return []
    (penalize,) = make_logits_processors(repetition_penalty=sampling.repetition_penalty)
    before = mx.array(known, mx.int32)
    return [lambda tokens, logits: penalize(mx.concatenate([before, tokens]), logits)]
