"""What a model has computed of a conversation, kept for its next turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlx_lm.models.cache import can_trim_prompt_cache, make_prompt_cache, trim_prompt_cache


class PromptCache:
    """Keys and values of the tokens seen last, by one model with one set of weights."""

    def __init__(self) -> None:
        self._layers: Any = None
        self._tokens: tuple[int, ...] = ()

    def begin(self, model: Any, prompt: Sequence[int]) -> tuple[Any, int]:
        """The layers' caches for a prompt, and how many of its tokens they hold already.

        At least the last token of the prompt is left to compute. The caches belong to the caller
        until `keep`.
        """
        layers, self._layers = self._layers, None
        shared = _shared(self._tokens, prompt[:-1])
        if layers is None or not shared or not can_trim_prompt_cache(layers):
            return make_prompt_cache(model), 0
        trim_prompt_cache(layers, len(self._tokens) - shared)
        return layers, shared

    def keep(self, layers: Any, tokens: Sequence[int]) -> None:
        """Remember caches that have seen these tokens, or the beginning of them."""
        if not can_trim_prompt_cache(layers):
            return
        seen = layers[0].size()
        if seen > len(tokens):
            # The model had begun the token after the last one that was wanted.
            trim_prompt_cache(layers, seen - len(tokens))
        self._layers, self._tokens = layers, tuple(tokens[:seen])

    def clear(self) -> None:
        """Forget everything: the weights are others now."""
        self._layers, self._tokens = None, ()


def _shared(known: Sequence[int], prompt: Sequence[int]) -> int:
    """How many tokens two sequences have in common at their beginning."""
    pairs = zip(known, prompt, strict=False)
    return next(
        (at for at, (left, right) in enumerate(pairs) if left != right),
        min(len(known), len(prompt)),
    )
