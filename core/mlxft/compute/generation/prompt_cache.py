"""Keeps a conversation's key/value cache for its next turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlx_lm.models.cache import can_trim_prompt_cache, make_prompt_cache, trim_prompt_cache


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


def _shared(known: Sequence[int], prompt: Sequence[int]) -> int:
    """The length of the common prefix."""
    pairs = zip(known, prompt, strict=False)
    return next(
        (at for at, (left, right) in enumerate(pairs) if left != right),
        min(len(known), len(prompt)),
    )
