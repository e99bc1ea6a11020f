"""Imports a GGUF file as an MLX model folder."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import mlx.core as mx
import numpy as np
from gguf import GGMLQuantizationType, ReaderTensor
from mlx_lm.utils import _get_classes

from mlxft.compute.arrays import named_arrays, save_arrays
from mlxft.compute.models.gguf_config import config_of
from mlxft.compute.models.gguf_families import Family, Heads, Values, completed
from mlxft.compute.models.gguf_file import GgufFile, read_file
from mlxft.compute.models.gguf_layout import ROPE_FACTORS, names_of_places, restored
from mlxft.compute.models.gguf_tokenizers import write_tokenizer
from mlxft.compute.models.gguf_weights import GROUP, KEPT, packed, shape_of, unpacked
from mlxft.compute.tokenization.tokenizers import first_line
from mlxft.errors import MlxftError, ModelError, StorageError
from mlxft.runs.events import ProgressMade
from mlxft.storage.atomic_files import sync_folder
from mlxft.storage.imported_models import imported_folder
from mlxft.text import figures

OnProgress = Callable[[ProgressMade], object]

SHARD_BYTES: Final = 1 << 30
"""Size of a weights file, whose arrays are in memory at a time."""


@dataclass(frozen=True, kw_only=True)
class _Array:
    """A tensor of the file and the layer's part that it becomes."""

    tensor: ReaderTensor
    layer: str
    """mlx-lm's name."""
    part: str
    """weight or bias."""
    keeps: bool
    """Whether MLX holds its type."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What it becomes, by name."""
        shape = shape_of(self.tensor)
        if not self.keeps:
            return {f"{self.layer}.{self.part}": shape}
        *rows, width = shape
        bits = KEPT[self.tensor.tensor_type]
        groups = (*rows, width // GROUP)
        return {
            f"{self.layer}.weight": (*rows, width * bits // 32),
            f"{self.layer}.scales": groups,
            f"{self.layer}.biases": groups,
        }


def imported(file: Path, on_progress: OnProgress) -> Path:
    """The model folder of a GGUF file, imported into the cache by the first call.

    Raises `ModelError` and `StorageError`.
    """
    try:
        target = imported_folder(file)
    except OSError as error:
        raise ModelError(
            f"{file}: the file can't be read ({error.strerror}); choose another one."
        ) from None
    if not target.is_dir():
        import_model(file, target, on_progress)
    return target


def import_model(
    source: Path, target: Path, on_progress: OnProgress, *, unpack: bool = False
) -> None:
    """Write `target` atomically as an MLX model folder.

    Matrices of types that MLX has, 8 bits and the plain ones of 4, stay as they are; others become
    16 bits, or 32 where the file has those. With `unpack` all are written in float32. Raises
    `ModelError` for a file that can't be imported, `StorageError` for a full disk.
    """

    def report(done: int, total: int) -> None:
        on_progress(ProgressMade(stage="importing", done=done, total=total, note=target.name))

    file = read_file(source)
    with _understood(source):
        config = config_of(file)
        arrays = _planned(file, config, unpack=unpack)
        dtype = mx.float32 if unpack else _dtype(file)
        _check(file, config, arrays)
    total = sum(_bytes(each, dtype) for each in arrays)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _refuse_full(target, total)
        temporary = Path(tempfile.mkdtemp(prefix=".importing-", dir=target.parent))
        try:
            with _understood(source):
                write_tokenizer(file, temporary)
            _write_config(config, arrays, dtype, temporary)
            _write_weights(file, config, arrays, dtype, temporary, report)
            _move_into_place(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StorageError(
            f"{target}: the model can't be stored ({reason}); free disk space, or move "
            "the cache with MLXFT_CACHE."
        ) from error
    report(total, total)


@contextmanager
def _understood(source: Path) -> Iterator[None]:
    """Refuse metadata of other types and values than a model has, as damage leaves them."""
    try:
        yield
    except (MlxftError, OSError):
        raise
    except Exception as error:  # tokenizers raises it itself
        raise ModelError(
            f"{source}: its metadata is not a model's ({first_line(error)}); copy the file again, "
            "or use the model's Hugging Face original."
        ) from error


def _planned(file: GgufFile, config: Mapping[str, Any], *, unpack: bool) -> list[_Array]:
    """All tensors with what becomes of them. Raises `ModelError` for an unknown one."""
    _, family = file.family
    places = names_of_places(family, file.layers)
    found = []
    for name, tensor in file.tensors.items():
        place, _, part = name.rpartition(".")
        if name == ROPE_FACTORS:
            continue
        if place not in places or part not in ("weight", "bias"):
            raise ModelError(
                f"{file.path}: the tensor {name} is unknown in a {file.architecture}; use the "
                "model's Hugging Face original."
            )
        keeps = not unpack and tensor.tensor_type in KEPT
        found.append(_Array(tensor=tensor, layer=places[place], part=part, keeps=keeps))
    return found


def _dtype(file: GgufFile) -> mx.Dtype:
    """The type of what isn't quantized: that of most values of matrices.

    Gemma's values exceed what 16-bit numbers of another kind than bfloat16 can hold.
    """
    sizes: Counter[GGMLQuantizationType] = Counter()
    for each in file.tensors.values():
        if len(each.shape) > 1:
            sizes[each.tensor_type] += int(each.n_elements)
    ((usual, _),) = sizes.most_common(1)
    if usual == GGMLQuantizationType.F32:
        return mx.float32
    _, family = file.family
    is_wide = usual == GGMLQuantizationType.BF16 or family.adds_one
    return mx.bfloat16 if is_wide else mx.float16


def _check(file: GgufFile, config: Mapping[str, Any], arrays: list[_Array]) -> None:
    """Refuse arrays that mlx-lm's model has not, and a model of which some are missing."""
    model_class, arguments = _get_classes(dict(config))
    shapes = {
        name: array.shape
        for name, array in named_arrays(
            model_class(arguments.from_dict(config)).parameters()
        ).items()
    }
    found = {f"{each.layer}.{each.part}": shape_of(each.tensor) for each in arrays}
    for name in {**shapes, **found}:
        if shapes.get(name) != found.get(name):
            there = "has" if name in found else "lacks"
            raise ModelError(
                f"{file.path}: it {there} {name}, unlike mlx-lm's {config['model_type']}; use the "
                "model's Hugging Face original."
            )


def _bytes(array: _Array, dtype: mx.Dtype) -> int:
    """How many bytes an array is written in."""
    sizes = {name: int(np.prod(shape)) for name, shape in array.shapes.items()}
    if array.keeps:
        packed_size = sizes.pop(f"{array.layer}.weight")
        return 4 * packed_size + dtype.size * sum(sizes.values())
    return dtype.size * sum(sizes.values())


def _refuse_full(target: Path, needed: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if needed > free:
        raise StorageError(
            f"{target}: the imported model needs {figures.size(needed)} and the disk has "
            f"{figures.size(free)} left; free space, or set MLXFT_CACHE to another folder."
        )


def _write_config(
    config: Mapping[str, Any], arrays: list[_Array], dtype: mx.Dtype, folder: Path
) -> None:
    kept = {each.layer: KEPT[each.tensor.tensor_type] for each in arrays if each.keeps}
    written = {**config, "torch_dtype": str(dtype).rpartition(".")[2]}
    if kept:
        ((usual, _),) = Counter(kept.values()).most_common(1)
        written["quantization"] = {
            "group_size": GROUP,
            "bits": usual,
            "mode": "affine",
            **{
                layer: {"group_size": GROUP, "bits": bits}
                for layer, bits in kept.items()
                if bits != usual
            },
        }
    (folder / "config.json").write_text(json.dumps(written, indent=2), encoding="utf-8")


def _write_weights(
    file: GgufFile,
    config: Mapping[str, Any],
    arrays: list[_Array],
    dtype: mx.Dtype,
    folder: Path,
    report: Callable[[int, int], None],
) -> None:
    """Write the arrays, those of one file in memory at a time."""
    _, family = file.family
    heads = Heads.of(completed(config))
    total, done = sum(_bytes(each, dtype) for each in arrays), 0
    shards = _shards(arrays, dtype)
    report(0, total)
    for number, shard in enumerate(shards, 1):
        found: dict[str, mx.array] = {}
        for each in shard:
            found |= _converted(file, each, family, heads, dtype)
            done += _bytes(each, dtype)
            report(done, total)
        last = len(shards)
        name = "model" if last == 1 else f"model-{number:05d}-of-{last:05d}"
        save_arrays(folder / f"{name}.safetensors", found)
        del found
        mx.clear_cache()


def _shards(arrays: list[_Array], dtype: mx.Dtype) -> list[list[_Array]]:
    shards: list[list[_Array]] = [[]]
    size = 0
    for each in arrays:
        if shards[-1] and size + _bytes(each, dtype) > SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(each)
        size += _bytes(each, dtype)
    return shards


def _converted(
    file: GgufFile, array: _Array, family: Family, heads: Heads, dtype: mx.Dtype
) -> Iterator[tuple[str, mx.array]]:
    """A tensor's arrays under mlx-lm's names, with the rows of queries and keys in its order."""
    if not array.keeps:
        values = restored(array.layer, _unpacked(file, array.tensor), family, heads)
        yield f"{array.layer}.{array.part}", mx.array(np.ascontiguousarray(values)).astype(dtype)
        return
    found = packed(array.tensor)
    parts: dict[str, Values] = {
        "weight": found.weight,
        "scales": found.scales,
        "biases": found.biases,
    }
    for part, each in parts.items():
        rows = heads.restored(array.layer, each) if family.rotates_pairs else each
        own = mx.array(np.ascontiguousarray(rows))
        yield f"{array.layer}.{part}", own if part == "weight" else own.astype(dtype)


def _unpacked(file: GgufFile, tensor: ReaderTensor) -> Any:
    try:
        return unpacked(tensor)
    except NotImplementedError:
        raise ModelError(
            f"{file.path}: {tensor.name} has the type {tensor.tensor_type.name}, which can't be "
            "read; use a Q8_0 or F16 file of the model, or its Hugging Face original."
        ) from None


def _move_into_place(temporary: Path, target: Path) -> None:
    """Rename the folder to its name; if another process was faster, its folder is equal."""
    for path in temporary.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    sync_folder(temporary)
    temporary.chmod(0o755)
    try:
        temporary.rename(target)
    except OSError:
        if not target.is_dir():
            raise
    sync_folder(target.parent)
