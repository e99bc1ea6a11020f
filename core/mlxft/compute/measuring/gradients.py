"""Gradients of attention and of delta nets: right or not, and what they keep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import mlx.core as mx
import numpy as np
from mlx_lm.models import gated_delta

from mlxft.compute import backend
from mlxft.compute.arrays import number
from mlxft.compute.measuring.device import device, on_cpu
from mlxft.compute.training import packing
from mlxft.compute.training.attention import known_choice, training_attention
from mlxft.compute.training.packing import PackedCache
from mlxft.compute.training.recurrent_layers import gated_delta_by
from mlxft.self_test.figures import GradientFigures, GradientRequest

HEADS, GROUPS = 4, 2
"""Of queries, and of keys and values."""

DELTA_HEADS: Final = 16
"""The fewest heads for which a backend's own kernels are known."""

_Function = Callable[..., mx.array]


def measure(request: GradientRequest) -> GradientFigures:
    """Compare an operation's gradient with a plain one, and its peaks at two lengths."""
    with backend.beside_training():
        return _delta_net(request) if request.form == "recurrence" else _attention(request)


def difference(
    function: _Function, plain: _Function, arrays: Sequence[mx.array], dtype: mx.Dtype
) -> float:
    """The largest relative distance of an output or a gradient of `function`, in `dtype` on this
    device, from those of `plain` in float32 on the CPU."""
    inputs = [each.astype(dtype) for each in arrays]
    found = _with_gradients(function, inputs)
    with on_cpu():
        expected = _with_gradients(plain, [each.astype(mx.float32) for each in inputs])
        return max(_distance(a, b) for a, b in zip(found, expected, strict=True))


def _with_gradients(function: _Function, arrays: Sequence[mx.array]) -> list[mx.array]:
    """The output under fixed weights, summed, and the gradients by all arrays."""

    def total(*inputs: mx.array) -> mx.array:
        output = function(*inputs).astype(mx.float32)
        # Waves, so that every part of the output counts differently.
        weights = mx.cos(mx.arange(output.size, dtype=mx.float32)).reshape(output.shape)
        return (output * weights).sum()

    value, gradients = mx.value_and_grad(total, tuple(range(len(arrays))))(*arrays)
    output = function(*arrays)
    mx.eval(value, gradients, output)
    return [output, *gradients]


def _distance(found: mx.array, expected: mx.array) -> float:
    off = found.astype(mx.float32) - expected
    length = number(mx.sqrt(expected.square().sum()))
    return number(mx.sqrt(off.square().sum())) / max(length, 1e-12)


def _peaks(
    function: _Function, arrays: Callable[[int], Sequence[mx.array]], lengths: tuple[int, int]
) -> tuple[int, int]:
    short, long = (_peak(function, arrays(each)) for each in lengths)
    return short, long


def _peak(function: _Function, arrays: Sequence[mx.array]) -> int:
    mx.eval(arrays)
    gradient = mx.value_and_grad(lambda *inputs: function(*inputs).sum(), tuple(range(len(arrays))))
    mx.eval(gradient(*arrays))  # The first time also compiles kernels.
    # How far MLX computes ahead depends on what else the machine does; without memory it waits.
    limit = mx.set_memory_limit(1)
    try:
        return backend.peak_of(lambda: mx.eval(gradient(*arrays)))
    finally:
        mx.set_memory_limit(limit)


# Attention


def _attention(request: GradientRequest) -> GradientFigures:
    dtype = mx.float32 if backend.kind() == "cpu" else mx.bfloat16
    scale, size = request.head**-0.5, request.head
    own = mx.fast.scaled_dot_product_attention
    ours = training_attention(known_choice(backend.kind()), own)
    masks = _Masks(packed=request.form == "packed")

    def by(attention: Any) -> _Function:
        return lambda q, k, v: attention(q, k, v, scale=scale, mask=masks.of(q.shape[2]))

    def arrays(tokens: int, of: mx.Dtype = dtype) -> list[mx.array]:
        mx.random.seed(tokens)
        shapes = [(1, heads, tokens, size) for heads in (HEADS, GROUPS, GROUPS)]
        return [mx.random.normal(shape).astype(of) for shape in shapes]

    short, long = request.lengths
    return GradientFigures(
        device=device(),
        subject=f"attention, heads of {size}, {request.form}",
        form=request.form,
        head=size,
        tokens=request.tokens,
        lengths=request.lengths,
        difference=difference(
            by(ours),
            lambda q, k, v: plain_attention(q, k, v, scale, masks.array(q.shape[2])),
            arrays(request.tokens, mx.float32),
            dtype,
        ),
        trained=_peaks(by(ours), arrays, request.lengths),
        own=_peaks(by(own), arrays, request.lengths),
        kept=HEADS * (long**2 - short * long) * dtype.size,
        dtype=str(dtype).rpartition(".")[2],
    )


class _Masks:
    """Causal masks, or those of packed rows of three records."""

    def __init__(self, *, packed: bool) -> None:
        self._packed = packed

    def of(self, tokens: int) -> Any:
        """What a model passes to attention."""
        return PackedCache(self._segments(tokens)).make_mask(tokens) if self._packed else "causal"

    def array(self, tokens: int) -> mx.array:
        """(1, 1, tokens, tokens): True where a token attends to another."""
        packing.forget_records()
        position = mx.arange(tokens)
        mask = position[:, None] >= position[None]
        if self._packed:
            segments = self._segments(tokens)[0]
            mask = mask & (segments[:, None] == segments[None])
        return mask[None, None]

    @staticmethod
    def _segments(tokens: int) -> mx.array:
        return mx.array(np.arange(tokens, dtype=np.int32)[None] * 3 // tokens)


def plain_attention(
    q: mx.array, k: mx.array, v: mx.array, scale: float, mask: mx.array
) -> mx.array:
    """Attention written out: softmax of the scores that the mask allows."""
    groups = q.shape[1] // k.shape[1]
    k, v = (mx.repeat(each, groups, axis=1) for each in (k, v))
    scores = (q * scale) @ k.swapaxes(-1, -2)
    return mx.softmax(mx.where(mask, scores, -mx.inf), axis=-1) @ v


# Delta nets


def _delta_net(request: GradientRequest) -> GradientFigures:
    size, dtype = request.head, mx.float32
    ours: Any = gated_delta_by(backend.kind())
    rate, bias = (
        mx.log(mx.array(np.linspace(0.5, 8, DELTA_HEADS, dtype=np.float32))),
        mx.ones(DELTA_HEADS),
    )

    def by(update: Any) -> _Function:
        def read(q: mx.array, k: mx.array, v: mx.array, a: mx.array, b: mx.array) -> mx.array:
            q, k = gated_delta.normalize_qk(q, k, inv_scale=size**-0.5, eps=1e-6)
            reads: mx.array = update(q, k, v, a, b, rate, bias, use_kernel=False)[0]
            return reads

        return read

    def arrays(tokens: int) -> list[mx.array]:
        mx.random.seed(tokens)
        shapes = [(1, tokens, DELTA_HEADS, size)] * 3 + [(1, tokens, DELTA_HEADS)] * 2
        return [mx.random.normal(shape).astype(dtype) for shape in shapes]

    plain = by(gated_delta.gated_delta_update)
    short, long = request.lengths
    return GradientFigures(
        device=device(),
        subject=f"delta net, heads of {size}",
        form="recurrence",
        head=size,
        tokens=request.tokens,
        lengths=request.lengths,
        difference=difference(by(ours), plain, arrays(request.tokens), dtype),
        trained=_peaks(by(ours), arrays, request.lengths),
        own=_peaks(by(_fast_update), arrays, request.lengths),
        kept=DELTA_HEADS * size * size * (long - short) * dtype.size,
        dtype="float32",
    )


def _fast_update(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    a: mx.array,
    b: mx.array,
    rate: mx.array,
    bias: mx.array,
    *,
    use_kernel: bool,
) -> tuple[mx.array, ...]:
    """MLX's own recurrence, with the gates of mlx_lm's."""
    decays = mx.exp(-mx.exp(rate) * mx.logaddexp(a + bias, 0))
    shape = (*v.shape[:1], v.shape[2], v.shape[3], k.shape[3])
    return tuple(mx.fast.gated_delta_update(q, k, v, decays, mx.sigmoid(b), mx.zeros(shape)))
