"""Benchmark: prompt and generation speed of a model, as in mlx_lm.benchmark."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import mlx.core as mx
from mlx_lm.generate import stream_generate

from mlxft.compute.generation.chat_model import ChatModel
from mlxft.compute.models.variants import Variant
from mlxft.compute.tokenization import load_tokenizer
from mlxft.conversation.benchmark import MOST_REPEATS, SpeedRun
from mlxft.errors import ModelError
from mlxft.telemetry.host import OtherWork


def measured(
    model: ChatModel, variant: Variant, prompt_tokens: int, generated_tokens: int, runs: int
) -> Iterator[SpeedRun]:
    """Benchmark runs over a random prompt after a warm-up run.

    A run while other processes were busy is repeated, up to a limit. Raises `ModelError` for
    lengths beyond the model's context.
    """
    loaded = model.variants.loaded
    length, limit = prompt_tokens + generated_tokens, loaded.context_length
    if limit is not None and length > limit:
        raise ModelError(
            f"{length} tokens exceed the model's context of {limit}; lower --prompt-tokens or "
            "--generation-tokens."
        )
    tokenizer = load_tokenizer(model.path, trust_remote_code=model.trust_remote_code)
    tokenizer._eos_token_ids = {}  # Never stop early.
    vocabulary = loaded.vocabulary or len(tokenizer)
    prompt = random.Random(0).choices(range(vocabulary), k=prompt_tokens)
    model.variants.use(variant)

    def measure() -> SpeedRun:
        mx.reset_peak_memory()
        work = OtherWork()
        *_, last = stream_generate(loaded.model, tokenizer, prompt, max_tokens=generated_tokens)
        peak, others = mx.get_peak_memory(), work.share() or 0.0
        return SpeedRun(last.prompt_tps, last.generation_tps, peak, others)

    measure()
    yield from repeated(measure, runs)


def repeated(measure: Callable[[], SpeedRun], runs: int) -> Iterator[SpeedRun]:
    """So many undisturbed runs, and the disturbed ones among them."""
    wanted = runs
    for _ in range(MOST_REPEATS * runs):
        run = measure()
        yield run
        wanted -= not run.disturbed
        if not wanted:
            return
