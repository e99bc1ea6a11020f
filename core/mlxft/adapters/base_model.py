"""A fingerprint of a model's weights, kept in the file of an adapter that was trained on them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import msgspec

from mlxft.adapters.files import AdapterFiles
from mlxft.adapters.tensors import Tensor, header_of
from mlxft.errors import ModelError

METADATA_KEY: Final = "base_model"
"""The fingerprint's place in a safetensors file's metadata."""

SAMPLE: Final = 4096
"""Bytes read at a place of a tensor: what a disk reads at once anyway."""

_PLACES: Final = 4
_MANY: Final = 4000
"""Tensors from which on one place of each is read."""


class Fingerprint(msgspec.Struct, frozen=True):
    """What distinguishes a model's weights from others, whatever the names of its files."""

    stored: str
    """In words: the type of the weights, or how they are quantized."""
    layout: str
    """A hash of all tensors' names, types and shapes."""
    values: str
    """A hash of samples of all tensors' values."""

    def __str__(self) -> str:
        return f"{self.stored}, {self.layout}-{self.values}"


def fingerprint(folder: Path) -> Fingerprint | None:
    """The fingerprint of a model's folder; None where its files can't be read.

    Of each tensor at most 16 KB are read, so a model of 8 billion weights takes a few megabytes.
    """
    try:
        files = sorted(folder.glob("model*.safetensors"))
        stats = [each.stat() for each in files]
        stamps = tuple((each.st_size, each.st_mtime_ns) for each in stats)
        return _fingerprint(folder, tuple(files), stamps) if files else None
    except (OSError, ModelError):
        return None


@lru_cache(maxsize=16)
def _fingerprint(folder: Path, files: tuple[Path, ...], stamps: tuple[object, ...]) -> Fingerprint:
    found = {name: (file, each) for file in files for name, each in header_of(file).tensors.items()}
    layout, values = hashlib.sha256(), hashlib.sha256()
    places = 1 if len(found) > _MANY else _PLACES
    opened = {file: file.open("rb") for file in files}
    try:
        for name, (file, tensor) in sorted(found.items()):
            layout.update(f"{name} {tensor.dtype} {tensor.shape}\n".encode())
            for start, length in _samples(tensor, places):
                opened[file].seek(start)
                values.update(opened[file].read(length))
    finally:
        for each in opened.values():
            each.close()
    return Fingerprint(
        stored=_stored(folder, (each for _, each in found.values())),
        layout=layout.hexdigest()[:12],
        values=values.hexdigest()[:16],
    )


def _samples(tensor: Tensor, places: int) -> Iterable[tuple[int, int]]:
    """Offsets and lengths of what is read of a tensor: all of a small one."""
    size = tensor.end - tensor.start
    if size <= places * SAMPLE:
        return ((tensor.start, size),)
    step = (size - SAMPLE) // max(1, places - 1)
    return ((tensor.start + step * number, SAMPLE) for number in range(places))


def _stored(folder: Path, tensors: Iterable[Tensor]) -> str:
    try:
        config = json.loads((folder / "config.json").read_bytes())
        packed = config.get("quantization") or config.get("quantization_config") or {}
    except (OSError, ValueError, AttributeError):
        packed = {}
    if isinstance(packed, Mapping) and isinstance(packed.get("bits"), int):
        mode = packed.get("mode", "affine")
        named = "" if mode == "affine" else f" {mode}"
        return f"{packed['bits']}-bit{named}, groups of {packed.get('group_size')}"
    sizes: Counter[str] = Counter()
    for each in tensors:
        sizes[each.dtype] += each.end - each.start
    return max(sizes, key=lambda kind: sizes[kind], default="")


def metadata(folder: Path) -> dict[str, str]:
    """What an adapter's file says of the model in this folder."""
    found = fingerprint(folder)
    return _metadata(found) if found else {}


def _metadata(found: Fingerprint) -> dict[str, str]:
    return {METADATA_KEY: msgspec.json.encode(found).decode()}


def carried(weights: Path, model: Path) -> dict[str, str]:
    """What a copy of an adapter says: its own model's fingerprint, or that of the one at hand."""
    found = kept(weights)
    return _metadata(found) if found else metadata(model)


def kept(weights: Path) -> Fingerprint | None:
    """The fingerprint in an adapter's file; None where there is none, as in those of other tools.

    Raises `ModelError` for a file that can't be read.
    """
    written: Any = header_of(weights).metadata.get(METADATA_KEY)
    try:
        return msgspec.json.decode(written, type=Fingerprint) if written else None
    except (msgspec.DecodeError, TypeError):
        return None


def difference(weights: Path, model: Path) -> str:
    """How a model differs from the one that an adapter was trained on, as a clause; or empty.

    Raises `ModelError` for an adapter that can't be read.
    """
    trained, present = kept(weights), fingerprint(model)
    if trained is None or present is None or trained == present:
        return ""
    if trained.stored != present.stored:
        return (
            f"it was trained on {trained.stored} weights and those of this model are "
            f"{present.stored}"
        )
    if trained.layout != present.layout:
        return "it was trained on another model, with other tensors"
    return (
        "it was trained on other weights than this model's, which was trained further or "
        "converted again"
    )


def warning(files: AdapterFiles, model: Path) -> str:
    """A sentence on an adapter used with other weights than it was trained on, or empty.

    `model` is the folder of the model at hand. Raises `ModelError`.
    """
    if not (differs := difference(files.weights, model)):
        return ""
    named = f", {files.model}," if files.model else ""
    return (
        f"{files.weights}: {differs}; it may answer worse than it learned, unless you choose the "
        f"model{named} that it was trained on."
    )
