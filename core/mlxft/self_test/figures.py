"""What one measurement of the self-test returns, from the process that has MLX."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from mlxft.memory.fitted import BackendKind

Form = Literal["causal", "packed", "recurrence"]


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """The device and the version of MLX that something was measured with."""

    kind: BackendKind
    name: str
    mlx: str


class Wanted(msgspec.Struct, frozen=True):
    """A line to a process that measures: a measurement by its name, and its request."""

    name: str
    request: msgspec.Raw


class Measured(msgspec.Struct, frozen=True):
    """The line that it answers; `is_last` where something is left in its memory, which the next
    peak would count: it ends, and another process measures what follows."""

    found: msgspec.Raw
    is_last: bool


class StepPoint(msgspec.Struct, frozen=True, kw_only=True):
    """A step to measure: a model of random weights by its config.json, rows, and the recipe's
    settings. `is_compared` says whether to compute it the plain way too."""

    name: str
    config: dict[str, Any]
    tokens: int
    batch_size: int
    grad_checkpoint: bool
    is_compared: bool = False

    @property
    def settings(self) -> tuple[str, ...]:
        """The recipe of the step, as ``key=value``."""
        return (
            "num_layers=-1",
            f"batch_size={self.batch_size}",
            f"max_seq_length={self.tokens + 1}",
            f"grad_checkpoint={'true' if self.grad_checkpoint else 'false'}",
        )

    @property
    def subject(self) -> str:
        """The step in words."""
        rows = f"{self.batch_size} × {self.tokens} tokens"
        return f"{self.name}, {rows}{', recomputed' if self.grad_checkpoint else ''}"


class StepFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A measured step: MLX's peak in bytes, seconds a step, the first loss, and where it was
    compared, the plain float32 CPU loss and the relative distance of the gradients. `warnings` say
    what a run of such a model would do otherwise than its recipe."""

    device: Device
    peak: int
    seconds: float
    loss: float
    plain_loss: float | None = None
    gradient_difference: float | None = None
    dtype: str = "float32"
    warnings: tuple[str, ...] = ()


class GradientFigures(msgspec.Struct, frozen=True, kw_only=True):
    """An operation's gradient: its relative distance from a plain float32 CPU computation, and the
    bytes that it takes at two lengths, as the trainer computes it and as MLX's own does.

    `kept` is how much more the longer row would take if the state of every token were kept; of
    attention, beyond its share by length if the scores of all pairs were.
    """

    device: Device
    subject: str
    form: Form
    head: int
    tokens: int
    lengths: tuple[int, int]
    difference: float
    trained: tuple[int, int]
    own: tuple[int, int]
    kept: int
    dtype: str = "float32"


class ProductFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A matrix product: GFLOP/s forward and backward as MLX computes it, and for quantized weights
    after unpacking them; and its relative distance from a plain float32 CPU computation."""

    device: Device
    subject: str
    tokens: int
    forward: float
    backward: float
    unpacked_forward: float | None = None
    unpacked_backward: float | None = None
    difference: float
    dtype: str = "float32"


class GradientRequest(msgspec.Struct, frozen=True, kw_only=True):
    """An operation to measure: attention of a head size under a mask, or a delta net's recurrence.

    `tokens` is the length of the comparison, `lengths` are those whose peaks are compared.
    """

    form: Form
    head: int
    tokens: int
    lengths: tuple[int, int]


class ProductRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A product to measure; `bits` is None for dense weights."""

    bits: int | None
    tokens: int
    side: int
