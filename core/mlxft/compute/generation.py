"""Answers: a conversation continued by a model, token by token."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any, Literal

import mlx.core as mx
from mlx_lm.generate import stream_generate
from mlx_lm.sample_utils import make_logits_processors, make_sampler

from mlxft.compute import adapters, models
from mlxft.compute.arrays import named_arrays
from mlxft.compute.models import LoadedModel
from mlxft.compute.tokenization import Tokenizer, first_line, load_tokenizer, render
from mlxft.conversation import Answer, Question, Sampling
from mlxft.errors import ModelError

PREFILL_TOKENS = 256
"""Prompt tokens computed at once; a cancel is noticed between two of these."""


_FinishReason = Literal["stop", "length", "cancelled"]


class _CancelledError(Exception):
    """The prompt's computation was left off."""


def generate(
    loaded: LoadedModel,
    tokenizer: Tokenizer,
    question: Question,
    on_text: Callable[[str], None],
    cancelled: Callable[[], bool],
) -> Answer:
    """Answer a question with the model as it is, until its end, a limit, or a cancel.

    `on_text` gets whole characters only. Raises `ModelError` for a conversation or a sampling that
    the model can't take.
    """
    started = time.perf_counter()
    check_sampling(question.sampling, loaded.vocabulary or len(tokenizer))
    prompt = _prompt(tokenizer, question)
    limit = min(question.sampling.max_tokens, _room(loaded, len(prompt)))
    model = loaded.model
    was_training = model.training
    model.eval()
    mx.random.seed(question.sampling.seed)
    responses = _responses(model, tokenizer, prompt, limit, question.sampling, cancelled)
    try:
        # Closed here, since a generator must end in the thread of its stream.
        with closing(responses):
            text, last, reason = _collected(responses, on_text, cancelled)
    finally:
        model.train(was_training)
    return Answer(
        text=text,
        finish_reason=reason,
        prompt_tokens=len(prompt),
        generated_tokens=last.generation_tokens if last else 0,
        prompt_speed=last.prompt_tps if last else 0.0,
        generation_speed=last.generation_tps if last else 0.0,
        seconds=time.perf_counter() - started,
    )


def check_sampling(sampling: Sampling, vocabulary: int) -> None:
    """Raises `ModelError` for a value that the sampler refuses.

    It must be found here: inside a compiled sampler it would spoil the thread's random state.
    """
    rules = (
        ("temperature", sampling.temperature, 0 <= sampling.temperature <= 100, "from 0 to 100"),
        ("top_p", sampling.top_p, 0 < sampling.top_p <= 1, "above 0 and at most 1"),
        ("top_k", sampling.top_k, 0 <= sampling.top_k < vocabulary, f"from 0 to {vocabulary - 1}"),
        ("min_p", sampling.min_p, 0 <= sampling.min_p <= 1, "from 0 to 1"),
        (
            "repetition_penalty",
            sampling.repetition_penalty,
            0 < sampling.repetition_penalty < math.inf,
            "above 0",
        ),
        ("max_tokens", sampling.max_tokens, sampling.max_tokens >= 1, "at least 1"),
        ("seed", sampling.seed, 0 <= sampling.seed < 2**64, "a whole number from 0"),
    )
    for name, value, fine, rule in rules:
        if not fine:
            raise ModelError(f"{name} is {value}; it must be {rule}.")


def base_weights(
    loaded: LoadedModel, trained: Collection[str], path: Path, trust_remote_code: bool
) -> AbstractContextManager[None]:
    """The model without what was trained, while the context lasts.

    `trained` are the names of the trained parameters. The layers of a full fine-tune are read
    again from the model's folder, so that a run doesn't keep two copies of them.
    """
    if any(name.endswith((".lora_a", ".lora_b")) for name in trained):
        return adapters.left_out(loaded.model)
    if not trained:
        return nullcontext()
    fresh = models.load(path, trust_remote_code, lazy=True).model
    original = named_arrays(fresh.parameters())
    return adapters.exchanged(loaded.model, [(name, original[name]) for name in trained])


class ChatModel:
    """A model that answers outside of a run, as it is or with a saved adapter."""

    def __init__(self, path: Path, trust_remote_code: bool = False) -> None:
        """Loads the tokenizer only. Raises `ModelError`."""
        self.path = path
        self.tokenizer = load_tokenizer(path, trust_remote_code)
        self._trust_remote_code = trust_remote_code
        self._loaded: LoadedModel | None = None
        self._adapter: tuple[Path, int] | None = None
        self._trained: frozenset[str] = frozenset()

    def load(self, adapter: Path | None) -> None:
        """Bring the weights into memory, again only if the adapter is another or has changed.

        `adapter` is a run's folder, or an adapter file in it. Raises `ModelError`.
        """
        wanted = None if adapter is None else (adapter, _changed(adapter))
        if self._loaded is not None and wanted == self._adapter:
            return
        self._loaded = None
        loaded = models.load(self.path, self._trust_remote_code)
        self._trained = adapters.load_saved(loaded, adapter) if adapter else frozenset()
        self._loaded, self._adapter = loaded, wanted

    def answer(
        self, question: Question, on_text: Callable[[str], None], cancelled: Callable[[], bool]
    ) -> Answer:
        """Answer with the adapter loaded last, or without it. Raises `ModelError`."""
        if self._loaded is None:
            self.load(None)
        assert self._loaded is not None
        with (
            nullcontext()
            if question.use_adapter
            else base_weights(self._loaded, self._trained, self.path, self._trust_remote_code)
        ):
            return generate(self._loaded, self.tokenizer, question, on_text, cancelled)


def _changed(adapter: Path) -> int:
    """When the adapter was last written."""
    file = adapter / adapters.WEIGHTS_NAME if adapter.is_dir() else adapter
    try:
        return file.stat().st_mtime_ns
    except OSError:
        raise ModelError(
            f"{adapter}: there is no saved adapter yet; wait for the run's first checkpoint or "
            "choose another run."
        ) from None


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


def _responses(
    model: Any,
    tokenizer: Tokenizer,
    prompt: tuple[int, ...],
    limit: int,
    sampling: Sampling,
    cancelled: Callable[[], bool],
) -> Any:
    """mlx_lm's stream of responses; a cancel while the prompt is computed raises."""

    def leave_off(*_: int) -> None:
        if cancelled():
            raise _CancelledError

    return stream_generate(
        model,
        tokenizer,
        list(prompt),
        max_tokens=limit,
        sampler=make_sampler(
            sampling.temperature, sampling.top_p, sampling.min_p, top_k=sampling.top_k
        ),
        logits_processors=_processors(sampling),
        prefill_step_size=PREFILL_TOKENS,
        prompt_progress_callback=leave_off,
    )


def _collected(
    responses: Any, on_text: Callable[[str], None], cancelled: Callable[[], bool]
) -> tuple[str, Any, _FinishReason]:
    """The whole text, the last response (None if there was none), and why it ended."""
    pieces: list[str] = []
    last: Any = None
    reason: _FinishReason = "cancelled"
    try:
        for last in responses:
            if last.text:
                pieces.append(last.text)
                on_text(last.text)
            if last.finish_reason is not None:
                reason = last.finish_reason
            elif cancelled():
                break
    except _CancelledError:
        pass
    return "".join(pieces), last, reason


def _processors(sampling: Sampling) -> list[Any]:
    if sampling.repetition_penalty == 1:
        return []
    processors: list[Any] = make_logits_processors(repetition_penalty=sampling.repetition_penalty)
    return processors
