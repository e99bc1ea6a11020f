"""A language model as body and head: tokens → hidden states → logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from mlxft.compute.training import packing
from mlxft.compute.training.batches import TrainedTokens

Head = Callable[[mx.array], mx.array]
"""From hidden states (positions, hidden) to logits (positions, vocabulary)."""

_BODIES: Final = ("model", "transformer", "backbone")


def trained_hidden_states(
    model: Any, batch: TrainedTokens, *, with_cache: bool = False
) -> mx.array:
    """The body's output at the trained positions, (positions, hidden).

    Raises `LookupError` for a model whose body isn't found.
    """
    cache = cache_argument(model, batch, with_cache=with_cache)
    hidden: mx.array = _body(model)(batch.tokens[:, :-1], **cache)
    return hidden.reshape(-1, hidden.shape[-1])[batch.positions]


def head_of(model: Any) -> Head:
    """The rest of the model, with its own soft-caps and scales of the logits."""
    body = _body(model)

    def head(hidden: mx.array) -> mx.array:
        with _returning(body, hidden[None]):
            logits: mx.array = model(mx.zeros((1, hidden.shape[0]), mx.int32))
        return logits.squeeze(0)

    return head


def vocabulary(model: Any) -> int:
    """The number of logits per position."""
    text_model = _text_model(model)
    arguments: Any = getattr(text_model, "args", None) or getattr(text_model, "config", None)
    size = getattr(arguments, "vocab_size", None)
    return int(size) if size else int(model(mx.zeros((1, 1), mx.int32)).shape[-1])


def cache_argument(model: Any, batch: TrainedTokens, *, with_cache: bool = False) -> dict[str, Any]:
    """The argument that keeps packed records apart; where a row is one record, new caches if the
    model is trained `with_cache`, otherwise None."""
    segments = None if batch.segments is None else batch.segments[:, :-1]
    cache = packing.caches(model, segments)
    if cache is None and with_cache:
        return {"cache": make_prompt_cache(model)}
    # Some bodies have no default for it.
    return {"cache": cache}


def _text_model(model: Any) -> Any:
    """The language model inside a multimodal one."""
    while "language_model" in model:
        model = model["language_model"]
    return model


def _body(model: Any) -> Any:
    text_model = _text_model(model)
    name = next((each for each in _BODIES if each in text_model), None)
    if name is None:
        raise LookupError("its body has an unknown name")
    return text_model[name]


@contextmanager
def _returning(body: Any, hidden: mx.array) -> Iterator[None]:
    """Make the body return these hidden states, so that calling the model applies its head alone.

    The method is replaced on the body's class, where a call looks it up, and restored at the end.
    """
    cls = type(body)
    own = cls.__dict__.get("__call__")
    call = cls.__call__

    def answer(self: Any, *arguments: Any, **options: Any) -> Any:
        return hidden if self is body else call(self, *arguments, **options)

    cls.__call__ = answer
    try:
        yield
    finally:
        if own is None:
            del cls.__call__
        else:
            cls.__call__ = own
