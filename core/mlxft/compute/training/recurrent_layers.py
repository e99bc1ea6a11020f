"""The recurrences of mlx_lm's models in training, with the signatures of its own functions.

mlx_lm trains gated delta nets token by token and keeps every token's state; its SSM keeps the
scores of every chunk.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import mlx.core as mx
from mlx_lm.models import gated_delta, ssm

from mlxft.compute.training import cuda_kernels, packing
from mlxft.compute.training.attention import Backend
from mlxft.compute.training.recurrences import Inputs, recurrence

Result = tuple[mx.array, mx.array]


@dataclass(frozen=True, kw_only=True)
class FusedKernels:
    """For which inputs a backend has kernels for `mx.fast.gated_delta_update` and its gradient."""

    size: int
    """Channels of queries, keys and values."""
    heads: frozenset[tuple[int, int]]
    """Numbers of key heads and value heads."""
    states: int
    """Bytes of float32 states to allow: the gradient may keep one per token of a call."""
    source: str


FUSED: Final[dict[Backend, FusedKernels | None]] = {
    "cpu": None,  # Token by token: output, time and memory of mlx_lm's, with mlx 0.32.4.
    "cuda": None,  # mlx 0.32.4 has no kernels for it.
    "metal": FusedKernels(
        size=128,
        heads=frozenset({(16, 16), (16, 32), (16, 48), (16, 64), (24, 24), (32, 32)}),
        states=2**28,
        source="kernels named in the macOS wheel of mlx 0.32.4; not measured",
    ),
}
"""What is known of each backend; None where no kernels serve."""


def replacements(backend: Backend) -> list[tuple[Any, str, Callable[..., Any]]]:
    """Module, name and replacement of each recurrence in mlx_lm's loaded models.

    Models import the functions by name, so they are replaced in every model's module.
    """
    if backend == "cuda":
        cuda_kernels.serve()  # Is tried now: nothing may be computed while a step is traced.
    by_name = {
        "gated_delta_update": (gated_delta.gated_delta_update, gated_delta_by(backend)),
        "ssm_update": (ssm.ssm_update, ssm_by(backend)),
    }
    models = [module for name, module in sys.modules.items() if name.startswith("mlx_lm.models.")]
    return [
        (module, name, ours)
        for module in models
        for name, (theirs, ours) in by_name.items()
        if getattr(module, name, None) is theirs
    ]


def are_used_by(model: Any) -> bool:
    """Whether a model of mlx_lm has layers that compute such a recurrence."""
    modules = {module for module, _, _ in replacements("cpu")}
    own = {type(layer).__module__ for _, layer in model.named_modules()}
    return any(module.__name__ in own for module in modules)


def gated_delta_by(backend: Backend) -> Callable[..., Result]:
    """`mlx_lm.models.gated_delta.gated_delta_update` for training."""

    def update(
        q: mx.array,
        k: mx.array,
        v: mx.array,
        a: mx.array,
        b: mx.array,
        A_log: mx.array,  # noqa: N803
        dt_bias: mx.array,
        state: mx.array | None = None,
        mask: mx.array | None = None,
        *,
        use_kernel: bool = True,
        lower_bound: float | None = None,
        allow_neg_eigval: bool = False,
    ) -> Result:
        rate = mx.exp(A_log.astype(mx.float32))
        if lower_bound is None:
            gates = -rate * mx.logaddexp(a + dt_bias, 0)
        else:
            gates = lower_bound * mx.sigmoid(rate * (a.astype(mx.float32) + dt_bias))
        beta = mx.sigmoid(b) * 2.0 if allow_neg_eigval else mx.sigmoid(b)
        gates = gates if gates.ndim == v.ndim else gates[..., None]
        inputs = Inputs(
            q=q,
            k=k,
            v=v,
            gates=_where(mask, gates),
            state=_state(state, k, v),
            beta=_where(mask, beta[..., None]),
        )
        reads, last = _gated_delta(inputs, backend)
        return reads, last.swapaxes(-1, -2)

    return update


def ssm_by(backend: Backend) -> Callable[..., Result]:
    """`mlx_lm.models.ssm.ssm_update` for training."""

    def update(
        hidden_states: mx.array,
        A_log: mx.array,  # noqa: N803
        B: mx.array,  # noqa: N803
        C: mx.array,  # noqa: N803
        D: mx.array,  # noqa: N803
        dt: mx.array,
        dt_bias: mx.array,
        state: mx.array | None = None,
        time_step_limit: tuple[float, float] = (0.001, 100.0),
        mask: mx.array | None = None,
        lengths: mx.array | None = None,
    ) -> Result:
        steps = ssm.compute_dt(dt, dt_bias, time_step_limit)[..., None]
        rate = -mx.exp(A_log).astype(steps.dtype)
        inputs = Inputs(
            q=C,
            k=B,
            v=_where(mask, steps * hidden_states),
            gates=_where(mask, steps * rate[:, None]),
            state=_state(state, B, hidden_states),
        )
        reads, last = recurrence(inputs, backend, packing.records())
        kept = hidden_states * D[:, None]
        return reads.astype(hidden_states.dtype) + kept, last.swapaxes(-1, -2)

    return update


def _gated_delta(inputs: Inputs, backend: Backend) -> Result:
    records = packing.records()
    fused = FUSED[backend]
    heads = inputs.k.shape[2], inputs.v.shape[2]
    sizes = {inputs.k.shape[-1], inputs.v.shape[-1]}
    one_gate = inputs.gates.shape[-1] == 1
    if fused is None or records is not None or not one_gate or heads not in fused.heads:
        return recurrence(inputs, backend, records)
    return _fused(inputs, fused) if sizes == {fused.size} else recurrence(inputs, backend)


def _fused(inputs: Inputs, fused: FusedKernels) -> Result:
    """The gated delta rule by the backend's kernels, so few tokens at a time that the states which
    the gradient of a call may keep are bounded."""
    state = inputs.state.swapaxes(-1, -2)
    most = max(1, fused.states // (4 * state.size))
    beta = inputs.beta.squeeze(-1) if inputs.beta is not None else mx.array(1.0)
    reads = []
    for start in range(0, inputs.v.shape[1], most):
        part = slice(start, start + most)
        q, k, v = inputs.q[:, part], inputs.k[:, part], inputs.v[:, part]
        decays = mx.exp(inputs.gates[:, part].squeeze(-1))
        read, state = mx.fast.gated_delta_update(
            q, k, v, decays, beta[:, part].astype(mx.float32), state
        )
        reads.append(read)
    return mx.concatenate(reads, axis=1), state.swapaxes(-1, -2)


def _state(state: mx.array | None, k: mx.array, v: mx.array) -> mx.array:
    """The state, key channels first, from mlx_lm's; zeros if none is given."""
    if state is not None:
        return state.astype(mx.float32).swapaxes(-1, -2)
    return mx.zeros((v.shape[0], v.shape[2], k.shape[-1], v.shape[-1]))


def _where(mask: mx.array | None, values: mx.array) -> mx.array:
    """The values, and 0 for padding, with which a token leaves the state as it is."""
    return values if mask is None else mx.where(mask[..., None, None], values, 0.0)
