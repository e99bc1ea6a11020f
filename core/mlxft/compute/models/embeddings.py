"""A model's embedding of tokens, whatever its family calls it."""

from __future__ import annotations

from typing import Any

from mlx.nn.layers.embedding import Embedding
from mlx.nn.layers.quantized import QuantizedEmbedding

_EMBEDDING = (Embedding, QuantizedEmbedding)


def token_embedding(model: Any) -> tuple[str, Any] | None:
    """The name of the layer that embeds tokens, and what is called for it: with an adapter around
    it that one. None where a model has none.

    It is the embedding outside of the blocks with the most rows; positions have fewer.
    """
    found: dict[str, Any] = {}
    for name, module in model.named_modules():
        is_outside = ".layers." not in f".{name}."
        if is_outside and isinstance(_inner(module), _EMBEDDING) and _outer(name) not in found:
            found[name] = module
    if not found:
        return None
    return max(found.items(), key=lambda each: int(_inner(each[1]).weight.shape[0]))


def _inner(module: Any) -> Any:
    """The layer itself, without what an adapter puts around it."""
    return module["embedding"] if "embedding" in module and "lora_a" in module else module


def _outer(name: str) -> str:
    return name.removesuffix(".embedding")
