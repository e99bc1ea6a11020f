"""A model's embedding of tokens and its head, whatever its family calls them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from mlx.nn.layers.embedding import Embedding
from mlx.nn.layers.linear import Linear
from mlx.nn.layers.quantized import QuantizedEmbedding, QuantizedLinear

_EMBEDDING = (Embedding, QuantizedEmbedding)
_LINEAR = (Linear, QuantizedLinear)
_OTHERS: Final = ("wpe", "per_layer", "ngram", "position")
_HEADS: Final = frozenset({"lm_head", "output", "embed_out", "head"})


def token_embedding(model: Any) -> tuple[str, Any] | None:
    """The name of the layer that embeds tokens, and what is called for it: with an adapter around
    it that one. None where a model has none.

    It is the embedding outside of the blocks with the most rows, apart from those of positions, of
    pairs of tokens and of single blocks.
    """
    found: dict[str, Any] = {}
    for name, module in outside_of_blocks(model):
        is_other = any(each in name for each in _OTHERS)
        is_inner = name.removesuffix(".embedding") in found
        if isinstance(_inner(module), _EMBEDDING) and not is_other and not is_inner:
            found[name] = module
    if not found:
        return None
    return max(found.items(), key=lambda each: _size(each[1]))


def head(model: Any) -> tuple[str, Any] | None:
    """The same for the layer that makes logits of hidden states; None where the embedding does.

    It is the linear layer of a usual name with as many rows as the embedding.
    """
    embedding = token_embedding(model)
    if embedding is None:
        return None
    for name, module in outside_of_blocks(model):
        is_named = not _HEADS.isdisjoint(name.split("."))
        is_linear = is_named and isinstance(_inner(module), _LINEAR)
        if is_linear and _size(module) == _size(embedding[1]):
            return name, module
    return None


def head_is_tied(model: Any) -> bool:
    """Whether the embedding makes the logits, too."""
    return head(model) is None


def block_names(model: Any) -> tuple[str, ...]:
    """What the names of the blocks' arrays begin with."""
    blocks = {id(each) for each in model.layers}
    return tuple(f"{name}." for name, module in model.named_modules() if id(module) in blocks)


def outside_of_blocks(model: Any) -> Iterator[tuple[str, Any]]:
    """The modules outside of the blocks, outer ones first."""
    blocks = block_names(model)
    for name, module in model.named_modules():
        if not f"{name}.".startswith(blocks):
            yield name, module


def _size(module: Any) -> int:
    return int(_inner(module).weight.shape[0])


def _inner(module: Any) -> Any:
    """The layer itself, without what an adapter puts around it."""
    if "lora_a" not in module and "rows" not in module:
        return module
    return next((module[key] for key in ("embedding", "linear") if key in module), module)
