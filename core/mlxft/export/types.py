"""An export: its form, what of it was measured, and its files."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import msgspec

from mlxft.text import figures

Form = Literal["mlx", "gguf", "peft", "adapter", "gguf-adapter"]
"""A fused model for MLX or llama.cpp; an adapter of PEFT, of mlx-lm, or of llama.cpp."""

GGUF_TYPES: Final = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")
"""What the gguf package can write; 16 bits is the usual."""

GGUF_FAMILIES: Final = (
    "gemma",
    "gemma2",
    "gemma3_text",
    "granite",
    "llama",
    "mistral",
    "olmo2",
    "phi3",
    "qwen2",
    "qwen3",
    "qwen3_moe",
    "smollm3",
)
"""Model types that are written for llama.cpp."""

PEFT_FAMILIES: Final = frozenset(
    {
        "cohere2",
        "ernie4_5",
        "gemma",
        "gemma2",
        "gemma3_text",
        "granite",
        "hunyuan_v1_dense",
        "llama",
        "mistral",
        "nemotron",
        "olmo2",
        "phi3",
        "qwen2",
        "qwen3",
        "qwen3_moe",
        "smollm3",
    }
)
"""Model types whose exported adapters gave the same logits in PEFT 0.21 with transformers 5.24."""

MODES: Final = ("mxfp4", "nvfp4", "mxfp8")
"""Quantizations of MLX beside the affine ones, which are named by their bits."""

BITS: Final = ("2", "3", "4", "5", "6", "8")

LOST_SHARE: Final = 0.1
"""Share of what training gained from which a lossy export is worth a warning."""


def unchecked(form: Form, family: str) -> str:
    """What isn't known of a family's exports in a form, or empty."""
    if form != "peft" or family in ("", *PEFT_FAMILIES):
        return ""
    return (
        f"Nobody has checked that transformers names the layers of {family} alike: compare PEFT's "
        "answers with those here."
    )


class Quantize(msgspec.Struct, frozen=True):
    """The weights of a fused model: as the model has them, unquantized, or quantized again."""

    name: str = "keep"
    """keep, none, a number of bits, a mode, or a type of GGUF."""

    @property
    def keeps(self) -> bool:
        """Whether each layer keeps its quantization."""
        return self.name == "keep"

    @property
    def gguf(self) -> str:
        """The type of a GGUF file's matrices."""
        return self.name if self.name in GGUF_TYPES else "f16"

    def suits(self, form: Form) -> bool:
        """Whether weights of a form can have it."""
        if self.name in GGUF_TYPES:
            return form == "gguf"
        return self.keeps or form == "mlx"

    @property
    def bits(self) -> int | None:
        """Bits of affine quantization."""
        return int(self.name) if self.name in BITS else None

    @property
    def mode(self) -> str | None:
        """Another mode than the affine one."""
        return self.name if self.name in MODES else None


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What to export of an adapter, and where to."""

    form: Form
    out: Path
    checkpoint: str | None = None
    """A saved step, or best; None is the last save."""
    quantize: Quantize = Quantize()


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """The exported weights, loaded again, against the model with its adapter.

    Logits are compared at `positions` trained positions of `records`; losses are in nats per
    trained token.
    """

    source: str
    """Where the records are from."""
    records: int
    positions: int
    largest_difference: float
    mean_difference: float
    base_loss: float
    loss: float
    exported_loss: float
    answers: int
    same_answers: int
    """Greedy answers that are the same."""

    @property
    def lost_share(self) -> float:
        """The share of what training gained that the export loses; 0 if it gained nothing."""
        gained = self.base_loss - self.loss
        return max(0.0, self.exported_loss - self.loss) / gained if gained > 0 else 0.0

    @property
    def lines(self) -> tuple[str, ...]:
        """The measurements in words."""
        return (
            f"logits: at most {self.largest_difference:.2g} apart, {self.mean_difference:.2g} on "
            f"average, at {self.positions} positions of {self.records} {self.source} records",
            f"loss: {self.exported_loss:.4f} exported, {self.loss:.4f} with the adapter, "
            f"{self.base_loss:.4f} without",
            f"greedy answers: {self.same_answers} of {self.answers} the same",
        )


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """A finished export."""

    form: Form
    folder: str
    files: tuple[tuple[str, int], ...]
    """Names and sizes in bytes."""
    proof: Proof
    family: str
    """The model's model_type."""
    quantize: Quantize = Quantize()

    @property
    def summary(self) -> str:
        """Where it is and how large."""
        size = figures.size(sum(size for _, size in self.files))
        return f"exported to {self.folder}: {len(self.files)} files, {size}"

    @property
    def note(self) -> str:
        """What the comparison can't include, or empty."""
        if self.form != "gguf" or self.quantize.gguf not in GGUF_TYPES[3:]:
            return ""
        return (
            "llama.cpp rounds what it multiplies quantized weights with to 8 bits, too; its "
            "answers may differ more than these."
        )

    @property
    def warning(self) -> str:
        """What the export loses or what is not certain, and what to do about it; else empty."""
        if warning := unchecked(self.form, self.family):
            return warning
        lost = self.proof.lost_share
        if self.form not in ("mlx", "gguf") or lost <= LOST_SHARE:
            return ""
        whole, finer = ("f16", "q8_0") if self.form == "gguf" else ("none", "8")
        return (
            f"The exported weights lose {lost:.0%} of what training gained, since they are "
            f"quantized; export with --quantize {whole}, or {finer} for a smaller loss."
        )
