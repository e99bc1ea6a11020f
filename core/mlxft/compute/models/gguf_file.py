"""A GGUF file: its tensors, its metadata, and which of mlx-lm's families it is of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import gguf
from gguf import GGUFReader, ReaderField, ReaderTensor

from mlxft.compute.models.gguf_families import FAMILIES, Family
from mlxft.errors import ModelError

_ALIASES: Final = ("mistral",)
"""Families whose files say that they are of another that computes the same."""


@dataclass(frozen=True)
class GgufFile:
    """A file's tensors by name, and its metadata.

    MLX's own reader isn't used: it reads Q4_K with the scales of other weights, skips types that it
    doesn't know without an error, and refuses whole files for others.
    """

    path: Path
    tensors: Mapping[str, ReaderTensor]
    metadata: Mapping[str, ReaderField]

    def get(self, key: str) -> Any:
        """A metadata value; None if absent."""
        field = self.metadata.get(key)
        return None if field is None else field.contents()

    def need(self, key: str) -> Any:
        """A metadata value. Raises `ModelError` if absent."""
        value = self.get(key)
        if value is None:
            raise ModelError(f"{self.path}: this GGUF file has no {key}; choose another file.")
        return value

    @property
    def architecture(self) -> str:
        """llama.cpp's name of the family, with which the keys of its shape begin."""
        return str(self.need("general.architecture"))

    def own(self, key: str) -> Any:
        """A value of the architecture's own keys; None if absent."""
        return self.get(f"{self.architecture}.{key}")

    def need_own(self, key: str) -> Any:
        """A value of the architecture's own keys. Raises `ModelError` if absent."""
        return self.need(f"{self.architecture}.{key}")

    @property
    def family(self) -> tuple[str, Family]:
        """mlx-lm's model_type and its layout. Raises `ModelError` for one that isn't read."""
        known = {
            gguf.MODEL_ARCH_NAMES[each.architecture]: (name, each)
            for name, each in FAMILIES.items()
            if name not in _ALIASES
        }
        if self.architecture not in known:
            raise ModelError(
                f"{self.path}: a {self.architecture} model can't be imported from GGUF, only "
                f"{', '.join(known)}; use its Hugging Face original."
            )
        return known[self.architecture]

    @property
    def layers(self) -> int:
        """The number of blocks. Raises `ModelError` for one that no file has."""
        count = int(self.need_own("block_count"))
        if not 0 < count <= len(self.tensors):
            raise ModelError(
                f"{self.path}: it has {len(self.tensors)} tensors for {count} layers; copy the "
                "file again."
            )
        return count


def read_file(path: Path) -> GgufFile:
    """Open a file. Raises `ModelError` for one that is cut off or of another type."""
    try:
        reader = GGUFReader(path)
    except (ValueError, IndexError, KeyError, OSError, OverflowError) as error:
        raise ModelError(f"{path}: this is not a whole GGUF file; copy it again.") from error
    return GgufFile(path, {each.name: each for each in reader.tensors}, reader.fields)
