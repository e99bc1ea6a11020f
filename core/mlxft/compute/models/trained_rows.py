"""An embedding or a head of which rows are trained, those of some tokens or all.

The layer itself stays, so the model without an adapter is still there; quantized ones, too. mlx-lm
has no such layer and refuses to load it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx.nn.layers.embedding import Embedding
from mlx.nn.layers.linear import Linear
from mlx.nn.layers.quantized import QuantizedEmbedding, QuantizedLinear
from mlx.utils import tree_unflatten

ROWS: Final = "rows"
TOKENS: Final = "tokens"
"""The names of the trained rows, (n, width), and of their tokens, (n,), in an adapter's file; the
second is not there if all rows are trained."""

_EMBEDDING: Final = (Embedding, QuantizedEmbedding)
_LAYERS: Final = (*_EMBEDDING, Linear, QuantizedLinear)


class TrainedRows(Module):
    """Replaces rows of an embedding's or a head's weights by trained ones, in float32."""

    def __init__(self, base: Any, tokens: Sequence[int] | None) -> None:
        """`tokens` are those whose rows are trained; None for all."""
        super().__init__()  # type: ignore[no-untyped-call]
        self["embedding" if isinstance(base, _EMBEDDING) else "linear"] = base
        # Hidden from the parameters by their names.
        self._tokens = None if tokens is None else mx.array(list(tokens), mx.int32)
        self.rows = _rows(base, self._tokens).astype(mx.float32)
        self._row_of = None
        if self._tokens is not None:
            row_of = mx.full(base.weight.shape[0], len(self._tokens), mx.int32)
            row_of[self._tokens] = mx.arange(len(self._tokens))
            self._row_of = row_of
            # What isn't a parameter isn't evaluated with them, but may be used by another thread.
            mx.eval(self._tokens, self._row_of)

    @property
    def tokens(self) -> mx.array | None:
        """The tokens whose rows are trained; None for all."""
        return self._tokens

    @property
    def base(self) -> Any:
        """The layer itself."""
        return self["embedding"] if "embedding" in self else self["linear"]

    def __call__(self, x: mx.array) -> mx.array:
        return self._embedded(x) if "embedding" in self else self._logits(x, self["linear"])

    def as_linear(self, x: mx.array) -> mx.array:
        """The logits of a head that is tied to this embedding."""
        return self._logits(x, self["embedding"].as_linear)

    def _embedded(self, tokens: mx.array) -> mx.array:
        if self._row_of is None:
            return self.rows[tokens].astype(_dtype(self.base))
        plain: mx.array = self["embedding"](tokens)
        row = self._row_of[tokens]
        trained = self.rows[mx.minimum(row, len(self.rows) - 1)].astype(plain.dtype)
        return mx.where((row < len(self.rows))[..., None], trained, plain)

    def _logits(self, x: mx.array, plainly: Any) -> mx.array:
        trained = x @ self.rows.T.astype(x.dtype)
        bias = self.base.get("bias")
        if bias is not None:
            trained = trained + (bias if self._tokens is None else bias[self._tokens])
        if self._tokens is None:
            return trained
        logits: mx.array = plainly(x)
        logits[..., self._tokens] = trained.astype(logits.dtype)
        return logits

    def fuse(self, dequantize: bool = False) -> Any:
        """The layer with the rows in its weights."""
        base = self.base
        weight = mx.array(_rows(base, None))
        if self._tokens is None:
            weight = self.rows.astype(weight.dtype)
        else:
            weight[self._tokens] = self.rows.astype(weight.dtype)
        outputs, inputs = weight.shape
        if "embedding" in self:
            whole: Any = Embedding(outputs, inputs)
        else:
            whole = Linear(inputs, outputs, bias="bias" in base)
            if "bias" in base:
                whole.bias = base.bias
        whole.weight = weight
        if "scales" not in base or dequantize:
            return whole
        kind = (
            QuantizedEmbedding.from_embedding
            if "embedding" in self
            else QuantizedLinear.from_linear
        )
        return kind(whole, base.group_size, base.bits, mode=base.mode)


def put_on(model: Any, names: Sequence[str], tokens: Sequence[int] | None) -> None:
    """Let the rows of these tokens be trained in the layers of these names."""
    modules = dict(model.named_modules())
    model.update_modules(
        tree_unflatten([(name, TrainedRows(modules[name], tokens)) for name in names])
    )


def put_saved(model: Any, found: Mapping[str, mx.array]) -> dict[str, mx.array]:
    """Put layers on a model for the rows among an adapter's arrays; returns those to load.

    Raises `LookupError` naming an array that the model has no place for.
    """
    kept = dict(found)
    modules = dict(model.named_modules())
    for name in found:
        layer, _, part = name.rpartition(".")
        if part != ROWS:
            continue
        if not isinstance(modules.get(layer), _LAYERS):
            raise LookupError(name)
        tokens = kept.pop(f"{layer}.{TOKENS}", None)
        ids: Any = None if tokens is None else tokens.tolist()
        if ids and max(ids) >= modules[layer].weight.shape[0]:
            raise LookupError(name)
        put_on(model, [layer], ids)
    return kept


def token_arrays(model: Any) -> dict[str, mx.array]:
    """The tokens of a model's trained rows, as an adapter's file names them."""
    return {
        f"{name}.{TOKENS}": module.tokens
        for name, module in model.named_modules()
        if isinstance(module, TrainedRows) and module.tokens is not None
    }


def _rows(base: Any, tokens: mx.array | None) -> mx.array:
    """Rows of a layer's weights, unpacked if they are quantized."""
    chosen = slice(None) if tokens is None else tokens
    if "scales" not in base:
        rows: mx.array = base.weight[chosen]
        return rows
    biases = base.get("biases")
    return mx.dequantize(
        base.weight[chosen],
        base.scales[chosen],
        None if biases is None else biases[chosen],
        base.group_size,
        base.bits,
        base.mode,
        dtype=_dtype(base),
    )


def _dtype(base: Any) -> mx.Dtype:
    """The type that a layer computes in."""
    dtype: mx.Dtype = (base.scales if "scales" in base else base.weight).dtype
    return dtype if mx.issubdtype(dtype, mx.floating) else mx.bfloat16
