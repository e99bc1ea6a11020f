"""The layers that an adapter changes, read from the names and shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlxft.errors import ModelError

_PART: Final = re.compile(
    r"(?P<layer>.+?)\.(?:"
    r"(?P<a>lora_a|lora_A|lora_embedding_A)|"
    r"(?P<b>lora_b|lora_B|lora_embedding_B)|"
    r"(?P<m>m|lora_magnitude_vector)"
    r")(?:\.default)?(?:\.weight)?"
)
"""An adapter's tensor in mlx-lm's or PEFT's names, the latter with or without their adapter's."""

_OUTER: Final = frozenset({"base_model", "model", "language_model", "text_model"})
"""Parts that libraries put before a layer's name, each in its own order."""

_BLOCK: Final = re.compile(r"(?:^|\.)layers\.(\d+)\.")


@dataclass(frozen=True, kw_only=True)
class AdaptedLayer:
    """A layer with the names of its two matrices and, for DoRA, of its magnitudes."""

    name: str
    """Without the parts before it that libraries don't agree on."""
    path: str
    """As in the file, where PEFT puts `base_model.model.` before it."""
    a: str
    b: str
    m: str | None
    rank: int
    inputs: int
    outputs: int

    @property
    def is_embedding(self) -> bool:
        """Whether the matrices are an embedding's, whose inputs are tokens."""
        return "embed" in self.name.rpartition(".")[2] or ".lora_embedding_" in self.a

    @property
    def block(self) -> int | None:
        """The number of the layer's block; None outside of blocks."""
        return block_of(self.name)


def common_name(name: str) -> str:
    """A layer's name as mlx-lm, transformers and PEFT have it in common."""
    parts = name.split(".")
    while len(parts) > 1 and parts[0] in _OUTER:
        del parts[0]
    return ".".join(parts)


def block_of(name: str) -> int | None:
    """The number of the block that a layer is in."""
    found = _BLOCK.search(name)
    return int(found[1]) if found else None


def adapted_layers(
    shapes: Mapping[str, tuple[int, ...]], file: Path, *, dora: bool = False
) -> tuple[AdaptedLayer, ...]:
    """The layers of an adapter's tensors, which may include others; none for a full fine-tune.

    Raises `ModelError` naming a layer of which a part is missing.
    """
    parts: dict[str, dict[str, str]] = {}
    for name in shapes:
        if found := _PART.fullmatch(name):
            parts.setdefault(found["layer"], {})[str(found.lastgroup)] = name
    wanted = ("a", "b", "m") if dora else ("a", "b")
    for layer, named in parts.items():
        missing = [each for each in wanted if each not in named]
        if missing or min(len(shapes[named[each]]) for each in ("a", "b")) < 2:
            raise ModelError(
                f"{file}: half of this adapter is missing: {layer} has no "
                f"{_SPOKEN[missing[0] if missing else 'a']}; "
                "save or copy it again, or choose another one."
            )
    return tuple(_layer(layer, named, shapes) for layer, named in parts.items())


_SPOKEN: Final = {"a": "lora_a", "b": "lora_b", "m": "magnitudes, which DoRA needs"}


def _layer(
    layer: str, named: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]
) -> AdaptedLayer:
    a, b = shapes[named["a"]], shapes[named["b"]]
    # mlx-lm's are (inputs, rank) and (rank, outputs); PEFT's, and mlx-lm's of experts, transposed.
    if "lora_a" in named["a"] and len(a) == 2:
        inputs, rank, outputs = a[0], a[-1], b[-1]
    else:
        inputs, rank, outputs = a[-1], a[-2], b[-2]
    return AdaptedLayer(
        name=common_name(layer),
        path=layer,
        a=named["a"],
        b=named["b"],
        m=named.get("m"),
        rank=rank,
        inputs=inputs,
        outputs=outputs,
    )
