"""Keys and values that are used again: a conversation's in its next turn, and those of the tokens
that many prompts begin with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import mlx.core as mx
from mlx_lm.models.cache import can_trim_prompt_cache, make_prompt_cache, trim_prompt_cache

_LEAST_SHARED: Final = 8
"""Fewer tokens than this take longer alone than with each prompt."""


class PromptCache:
    """Keys and values of the last conversation, for one set of weights."""

    def __init__(self) -> None:
        self._layers: Any = None
        self._tokens: tuple[int, ...] = ()

    def begin(self, model: Any, prompt: Sequence[int]) -> tuple[Any, int]:
        """The layers' caches for a prompt, and how many of its tokens they already hold.

        At least the prompt's last token remains to be processed. The caller owns the caches until
        `keep`.
        """
        layers, self._layers = self._layers, None
        shared = _shared(self._tokens, prompt[:-1])
        if layers is None or not shared or not can_trim_prompt_cache(layers):
            return make_prompt_cache(model), 0
        trim_prompt_cache(layers, len(self._tokens) - shared)
        return layers, shared

    def keep(self, layers: Any, tokens: Sequence[int]) -> None:
        """Store caches that hold these tokens, or a prefix of them."""
        if not can_trim_prompt_cache(layers):
            return
        seen = layers[0].size()
        if seen > len(tokens):
            # The model has already processed a token past the last one.
            trim_prompt_cache(layers, seen - len(tokens))
        self._layers, self._tokens = layers, tuple(tokens[:seen])

    def clear(self) -> None:
        """Drop the cache, since the weights changed."""
        self._layers, self._tokens = None, ()


@dataclass(frozen=True, kw_only=True)
class SharedPrefix:
    """The tokens that several prompts begin with, such as a system prompt, and their caches.

    Each prompt has at least one token more. `layers` are only to be read; None without tokens.
    """

    tokens: tuple[int, ...] = ()
    layers: Any = None

    @classmethod
    def of(
        cls,
        model: Any,
        prompts: Sequence[tuple[int, ...]],
        *,
        at_once: int,
        cancelled: Callable[[], bool],
    ) -> SharedPrefix:
        """Process the prefix with the model, `at_once` tokens in turn; none once `cancelled`."""
        # What the first and the last in order share, those between them share too.
        count = _shared(min(prompts), max(prompts))
        tokens = prompts[0][: min(count, min(map(len, prompts)) - 1)]
        if len(tokens) < _LEAST_SHARED:
            return cls()
        layers = make_prompt_cache(model)
        for start in range(0, len(tokens), at_once):
            if cancelled():
                return cls()
            model(mx.array([tokens[start : start + at_once]]), cache=layers)
            mx.eval([each.state for each in layers])
        return cls(tokens=tokens, layers=layers)


def _shared(known: Sequence[int], prompt: Sequence[int]) -> int:
    """The length of the common prefix."""
    pairs = zip(known, prompt, strict=False)
    return next(
        (at for at, (left, right) in enumerate(pairs) if left != right),
        min(len(known), len(prompt)),
    )
