"""Keeps what the check of a model found, since a run that differs in nothing it depends on finds
the same."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec

import mlxft.compute
from mlxft import recipe as recipes
from mlxft.compute import backend
from mlxft.compute.arrays import named_arrays
from mlxft.compute.models import adapters
from mlxft.compute.models.loading import LoadedModel
from mlxft.compute.training.loss import Loss
from mlxft.compute.training.start_checks import Verified
from mlxft.recipe import Recipe
from mlxft.storage.atomic_files import write_atomically
from mlxft.storage.paths import checks_file

KEPT: Final = 200
"""Checks kept, the newest ones."""

_GROUPS: Final = ("model", "adapter", "memory")
_VALUES: Final = (
    *recipes.keys_where(lambda each: each.group in _GROUPS),
    *("packing", "batch_size", "max_seq_length", "neftune_noise_alpha"),
)
"""What of a recipe the check depends on."""

_MODEL_FILES: Final = (".safetensors", ".json", ".py")


class _Check(msgspec.Struct, frozen=True, kw_only=True):
    """A check's result in the file."""

    key: str
    chunked: bool
    with_cache: bool
    trains_head: bool = False
    grad_checkpoint: bool
    warnings: tuple[str, ...]


def check_key(recipe: Recipe, loaded: LoadedModel, folder: Path) -> str:
    """What the check depends on, as a hash: the model's files and code, ours, versions, device, and
    the recipe's values; not the values of an adapter."""
    parts = [
        *map(repr, sorted(backend.versions().items())),
        backend.device_name(),
        backend.blas_name() if backend.kind() == "cpu" else backend.kind(),
        _own_code(),
        *_stamps(Path(inspect.getfile(type(loaded.model)))),
        *(stamp for file in sorted(folder.iterdir()) for stamp in _stamps(file)),
        repr(adapters.compute_dtype(loaded, recipe)),
        *(f"{name} {array.dtype}" for name, array in _trained(loaded)),
        *(f"{key} {recipes.get(recipe, key)!r}" for key in _VALUES),
    ]
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def _trained(loaded: LoadedModel) -> list[tuple[str, Any]]:
    return sorted(named_arrays(loaded.model.trainable_parameters()).items())


def _stamps(file: Path) -> Iterator[str]:
    if file.suffix in _MODEL_FILES and file.is_file():
        found = file.stat()
        yield f"{file.name} {found.st_size} {found.st_mtime_ns}"


@cache
def _own_code() -> str:
    """A hash of the code that trains and checks."""
    found = hashlib.sha256()
    for file in sorted(Path(mlxft.compute.__path__[0]).rglob("*.py")):
        found.update(file.read_bytes())
    return found.hexdigest()


def remembered(key: str) -> Verified | None:
    """What a check with this key has found."""
    found = next((each for each in _checks() if each.key == key), None)
    if found is None:
        return None
    loss = Loss(chunked=found.chunked, with_cache=found.with_cache, trains_head=found.trains_head)
    return Verified(loss=loss, grad_checkpoint=found.grad_checkpoint, warnings=found.warnings)


def remember(key: str, found: Verified) -> None:
    """Keep what a check has found; ignores a file that can't be written."""
    loss = found.loss
    check = _Check(
        key=key,
        chunked=loss.chunked,
        with_cache=loss.with_cache,
        trains_head=loss.trains_head,
        grad_checkpoint=found.grad_checkpoint,
        warnings=found.warnings,
    )
    kept = [*(each for each in _checks() if each.key != key), check][-KEPT:]
    file = checks_file()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(file, msgspec.json.encode(kept), durable=False)
    except OSError:
        return


def _checks() -> list[_Check]:
    try:
        return msgspec.json.decode(checks_file().read_bytes(), type=list[_Check])
    except (OSError, msgspec.DecodeError):
        return []
