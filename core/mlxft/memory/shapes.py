"""A model's matrices, from its config.json alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

from mlxft.errors import ModelError
from mlxft.memory.blocks import Block, Matrix, Quantization
from mlxft.memory.config import Config
from mlxft.memory.families import Family, family_of

_DTYPE_BYTES: Final = {"float32": 4, "float16": 2, "bfloat16": 2}

_DEFAULTS: Final = {"affine": (4, 64), "mxfp4": (4, 32), "nvfp4": (4, 16), "mxfp8": (8, 32)}
"""Bits and group size of a mode of quantization."""


_LARGEST: Final = {"hidden_size": 10**7, "vocab_size": 10**8, "num_hidden_layers": 10**4}
"""Far beyond any model's; a list of models reads every config.json, also those of strangers."""


@dataclass(frozen=True, kw_only=True)
class ModelShapes:
    """All matrices of a model; `head` is None if it is tied to the embedding.

    `extra` are other matrices outside of the blocks. Without a `known_family` the blocks are
    assumed to be plain ones.
    """

    model_type: str
    hidden: int
    vocabulary: int
    embedding: Matrix
    blocks: tuple[Block, ...]
    head: Matrix | None
    vectors: int
    dtype_bytes: int
    known_family: bool
    extra: tuple[Matrix, ...] = ()
    caps_logits: bool = False
    """Whether logits pass a hyperbolic tangent."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ModelShapes:
        """Read a config.json. Raises `ModelError` if that isn't possible."""
        try:
            return cls._read(config)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise ModelError(
                f"config.json: the shapes of this {config.get('model_type')} model can't be read "
                f"({error}), so its memory can't be estimated; the run itself may still work."
            ) from error

    @classmethod
    def _read(cls, config: Mapping[str, Any]) -> ModelShapes:
        name, family, c = family_of(config)
        for key, largest in _LARGEST.items():
            if not 0 < c.number(key) <= largest:
                raise ValueError(f"{key} is {c.number(key)}")
        extra = family.extra(c)
        shapes = cls(
            model_type=str(config.get("model_type") or name),
            hidden=c.hidden,
            vocabulary=c.number("vocab_size"),
            embedding=Matrix("embed_tokens", c.number("vocab_size"), c.hidden),
            blocks=tuple(family.block(c, at) for at in range(c.number("num_hidden_layers"))),
            head=_head(c, family),
            vectors=c.hidden * (2 if family.has_norm_bias(c) else 1) + extra.vectors,
            dtype_bytes=_dtype_bytes(c),
            known_family=family.known,
            extra=extra.matrices,
            caps_logits=_caps_logits(c, name),
        )
        return _with_quantization(shapes, config)

    def with_kept_scores(self) -> ModelShapes:
        """The same model where attention keeps all scores for its backward pass."""
        return replace(
            self, blocks=tuple(replace(each, fused_attention=False) for each in self.blocks)
        )

    @cached_property
    def parameters(self) -> int:
        """All parameters; a tied head counts once."""
        head = self.head.parameters if self.head else 0
        blocks = sum(each.parameters for each in self.blocks)
        extra = sum(each.parameters for each in self.extra)
        return self.embedding.parameters + blocks + head + extra + self.vectors

    @cached_property
    def stored_bytes(self) -> int:
        """Bytes of the weights in the model's files."""
        matrices = [each for block in self.blocks for each in block.matrices]
        matrices += [self.embedding, *self.extra, *([self.head] if self.head else [])]
        vectors = self.vectors + sum(block.vectors for block in self.blocks)
        packed = sum(each.stored_bytes(self.dtype_bytes) for each in matrices)
        return round(packed) + vectors * self.dtype_bytes

    @cached_property
    def bits(self) -> int | None:
        """Bits of most weights; None if the model is not quantized."""
        counts: Counter[int | None] = Counter()
        for block in self.blocks:
            for each in block.matrices:
                counts[each.quantization.bits if each.quantization else None] += each.parameters
        return counts.most_common(1)[0][0] if counts else None

    @cached_property
    def active_parameters(self) -> int:
        """Parameters of the blocks used for one token."""
        return sum(each.active_parameters for each in self.blocks)

    def trained_blocks(self, num_layers: int) -> tuple[Block, ...]:
        """The last `num_layers` blocks; all of them for 0 or less."""
        return self.blocks[-num_layers:] if num_layers > 0 else self.blocks


def _with_quantization(shapes: ModelShapes, config: Mapping[str, Any]) -> ModelShapes:
    """The shapes with each matrix quantized as config.json says, by its path or in general."""
    found = config.get("quantization") or config.get("quantization_config")
    general = _quantization(found)
    if not isinstance(found, Mapping) or general is None:
        return shapes
    # Of its own layers; other keys are numbers and names.
    entries = {
        path: each
        for path, each in found.items()
        if each is None or isinstance(each, bool | Mapping)
    }
    own = {
        _tail(path): general if each is True else _quantization(each)
        for path, each in entries.items()
    }

    def packed(matrix: Matrix, path: str) -> Matrix:
        chosen = own.get(path, general)
        if chosen is None or matrix.inputs % chosen.group_size:
            return matrix
        return replace(matrix, quantization=chosen)

    return replace(
        shapes,
        embedding=packed(shapes.embedding, shapes.embedding.name),
        extra=tuple(packed(each, each.name) for each in shapes.extra),
        head=packed(shapes.head, shapes.head.name) if shapes.head else None,
        blocks=tuple(
            replace(
                block,
                matrices=tuple(packed(each, f"{at}.{each.name}") for each in block.matrices),
            )
            for at, block in enumerate(shapes.blocks)
        ),
    )


def _quantization(found: object) -> Quantization | None:
    """An entry of config.json; what it leaves out or null is the mode's default, as in MLX."""
    if not isinstance(found, Mapping) or not {"bits", "group_size", "mode"} & found.keys():
        return None
    mode = str(found.get("mode") or "affine")
    default_bits, default_group_size = _DEFAULTS.get(mode, _DEFAULTS["affine"])
    bits, group_size = found.get("bits"), found.get("group_size")
    bits = default_bits if bits is None else bits
    group_size = default_group_size if group_size is None else group_size
    if not isinstance(bits, int) or not isinstance(group_size, int) or group_size < 1:
        return None
    return Quantization(bits, group_size, mode)


def _tail(path: str) -> str:
    """``model.layers.3.mlp.up_proj`` → ``3.mlp.up_proj``; outside the blocks the last name."""
    _, inside, tail = path.rpartition("layers.")
    return tail if inside else path.rpartition(".")[2]


def _head(c: Config, family: Family) -> Matrix | None:
    if family.is_tied(c):
        return None
    return Matrix("lm_head", c.number("vocab_size"), c.hidden, bias=family.head_bias)


_CAPPED: Final = ("gemma2", "gemma4")
"""Families whose logits are soft-capped by default."""


def _caps_logits(c: Config, name: str) -> bool:
    return c.flag("final_logit_softcapping", name.startswith(_CAPPED))


def _dtype_bytes(c: Config) -> int:
    """Bytes of an unquantized weight; two unless config.json says otherwise."""
    name = c.text("torch_dtype") or c.text("dtype")
    return _DTYPE_BYTES.get(name.rpartition(".")[2], 2)
