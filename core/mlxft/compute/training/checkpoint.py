"""Checkpoints: everything a bit-exact resume needs, and the adapter in mlx-lm's own layout."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import msgspec

from mlxft import recipe as recipes
from mlxft.adapters import base_model
from mlxft.adapters.files import WEIGHTS_NAME
from mlxft.compute.arrays import named_arrays, put_arrays, read_arrays, save_arrays
from mlxft.compute.models import adapters
from mlxft.compute.training.state import Spent, TrainingState
from mlxft.compute.training.step import AccumulatedGradients
from mlxft.errors import RunError, StorageError
from mlxft.recipe import Recipe, Resume
from mlxft.runs.directory import RunDirectory
from mlxft.runs.events import LearningRateChanged
from mlxft.storage.atomic_files import sync_folder, write_atomically
from mlxft.text import path_json
from mlxft.text.figures import learning_rate

_FORMAT = 2
_STATE = "state.json"
_TRAINING = "training.safetensors"


class _Digest(msgspec.Struct, frozen=True):
    size: int
    crc32: int


class _Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of state.json, which is written last and vouches for the other files."""

    format: int
    recipe: dict[str, Any]
    state: TrainingState
    accumulated_weight: float = msgspec.field(name="waiting_steps")
    accumulated_unit: float = 0.0
    files: dict[str, _Digest]


_MANIFEST = msgspec.json.Decoder(_Manifest)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """An intact checkpoint on disk."""

    path: Path
    state: TrainingState
    accumulated_weight: float
    accumulated_unit: float
    changes: dict[str, str]
    """How the recipe has changed since, as ``old → new`` by key."""

    def refuse_other_base(self, folder: Path) -> None:
        """Raise `RunError` unless the model in this folder has the weights that were trained on."""
        if differs := base_model.difference(self.path / WEIGHTS_NAME, folder):
            raise RunError(
                f"{self.path}: {differs}, so a resume would not continue this run; bring back the "
                f"model as it was in {folder}, or start a new run from this adapter with "
                "resume_adapter_file."
            )

    def restore(self, model: Any, optimizer: Any) -> AccumulatedGradients:
        """Load the weights and the optimizer's state; returns the accumulated gradients.

        The optimizer must be initialised. Raises `RunError` if model or optimizer differ from
        those of the checkpoint.
        """
        weights = read_arrays(self.path / WEIGHTS_NAME)
        arrays = read_arrays(self.path / _TRAINING)
        state = _under(arrays, "optimizer.")
        if _shapes(weights) != _shapes(adapters.saved_arrays(model)):
            raise RunError(
                f"{self.path}: this checkpoint is of another model; set model to the one the run "
                "was started with."
            )
        if _shapes(dict(state)) != _shapes(named_arrays(optimizer.state)):
            raise RunError(
                f"{self.path}: this checkpoint is of an optimizer with other arguments; set "
                "optimizer_config as the run was started with."
            )
        trained = named_arrays(model.trainable_parameters())
        model.load_weights([(name, weights[name]) for name in trained], strict=False)
        # In place: a compiled update holds the state that it was made with.
        put_arrays(optimizer.state, dict(state))
        accumulated = AccumulatedGradients(
            dict(_under(arrays, "waiting.")), self.accumulated_weight, self.accumulated_unit
        )
        mx.eval(model.trainable_parameters(), optimizer.state, accumulated.total)
        return accumulated


def newest(directory: RunDirectory, recipe: Recipe) -> tuple[Checkpoint | None, list[str]]:
    """The newest intact checkpoint that fits the recipe, and why newer ones were passed over.

    Raises `RunError` where there is none and a start from step 0 would overwrite the work of
    another recipe.
    """
    refusals: list[str] = []
    foreign: _ForeignError | None = None
    for path in reversed(_folders(directory)):
        try:
            return _read(path, recipe), [f"{each}; an earlier one is used." for each in refusals]
        except _UnusableError as reason:
            refusals.append(f"{path}: this checkpoint {reason}")
            if foreign is None and isinstance(reason, _ForeignError):
                foreign = reason
    if foreign is not None:
        raise RunError(
            f"{directory.path}: its checkpoints were made with another recipe "
            f"({_listed(foreign.changes)}); undo the change in recipe.yaml, or start a new run; "
            f"all but {', '.join(_fixed())} may change."
        )
    return None, [f"{each}." for each in refusals]


def examined(directory: RunDirectory, recipe: Recipe) -> list[tuple[int, str | None]]:
    """The step of each checkpoint, and what is wrong with it, as ``has a damaged …``."""
    found: list[tuple[int, str | None]] = []
    for path in _folders(directory):
        try:
            _read(path, recipe)
            found.append((int(path.name), None))
        except _UnusableError as reason:
            found.append((int(path.name), str(reason)))
    return found


def changed_recipe(found: Checkpoint) -> str:
    """One sentence on how a resume's recipe differs from the checkpoint's, and what follows."""
    moved = any(_resume(key) == "reorders" for key in found.changes)
    order = "; records come in a different order from now on" if moved else ""
    replaced = _has_new_rate(found) and found.state.rate_factor != 1.0
    rate = "; the new learning rate replaces the one set manually" if replaced else ""
    return f"The recipe has changed since this step ({_listed(found.changes)}){order}{rate}."


def resumed_state(found: Checkpoint | None) -> TrainingState:
    """The state that training continues from, with the recipe's rate where that is a new one."""
    state = found.state if found else TrainingState()
    spent = state.spent or Spent(since=state.step)
    if found and found.changes:
        spent = replace(spent, training_peak=0)
    state = replace(state, spent=spent)
    return replace(state, rate_factor=1.0) if found and _has_new_rate(found) else state


def unsaved_rates(
    found: Checkpoint | None, changes: Sequence[LearningRateChanged]
) -> tuple[LearningRateChanged, ...]:
    """The manual changes of the rate after the checkpoint, unless the recipe has a new rate."""
    if found is None:
        return tuple(changes)
    if _has_new_rate(found):
        return ()
    saved = found.state.rate_changes
    if saved is None:
        saved = sum(each.step <= found.state.step for each in changes)
    return tuple(changes[saved:])


def unsaved_rate(change: LearningRateChanged, *, repeated: bool) -> str:
    """One sentence on a manual change of the rate that the checkpoint doesn't have."""
    rate = f"The learning rate {learning_rate(change.learning_rate)} set after step {change.step}"
    if repeated:
        return f"{rate} is later than the checkpoint and is set again after that step."
    return f"{rate} is not set again, since the run failed with it."


def _has_new_rate(found: Checkpoint) -> bool:
    """Whether the recipe's learning rate or schedule differs from the checkpoint's."""
    return any(_resume(key) == "rate" for key in found.changes)


def _resume(key: str) -> Resume:
    return recipes.find(key).declared.resume


def _fixed() -> tuple[str, ...]:
    """Parameters that decide which arrays a checkpoint holds, or what they mean."""
    return recipes.keys_where(lambda each: each.resume == "fixed")


def earlier_adapter(directory: RunDirectory) -> Path:
    """The name to keep the adapter of a run that starts over: a free one, or one that has it."""
    for number in itertools.count(1):
        path = directory.path / f"earlier-{number}_adapters.safetensors"
        if not path.exists() or _are_equal(path, directory.adapter_file):
            return path
    raise AssertionError


def keep_adapter(directory: RunDirectory, target: Path) -> None:
    """Keep the current adapter under a name that no save replaces. Raises `StorageError`."""
    if target.exists():  # A killed save came as far as this.
        return
    with _disk_errors(directory.path):
        try:
            os.link(directory.adapter_file, target)
        except OSError:  # Not every file system has links.
            _copy_atomically(directory.adapter_file, target)


class _UnusableError(Exception):
    """A checkpoint is incomplete, damaged or foreign; the text follows its name."""


class _ForeignError(_UnusableError):
    """A checkpoint's arrays don't fit the recipe."""

    def __init__(self, changes: dict[str, str]) -> None:
        super().__init__("is of another recipe")
        self.changes = changes


def _listed(changes: dict[str, str]) -> str:
    """Changes as text: ``batch_size 4 → 2``."""
    return ", ".join(f"{key} {change}" for key, change in changes.items())


def save(
    directory: RunDirectory,
    recipe: Recipe,
    state: TrainingState,
    *,
    model: Any,
    optimizer: Any,
    accumulated: AccumulatedGradients,
    base: Mapping[str, str] | None = None,
) -> Path:
    """Write a checkpoint and the adapter, each atomically; returns the checkpoint's folder.

    `base` is what the adapter's file says of its model. Raises `StorageError`; what was saved
    before stays.
    """
    folder = _folder(directory, state.step)
    with _disk_errors(directory.path), _replaced_folder(folder) as new:
        _save_arrays(new / WEIGHTS_NAME, adapters.saved_arrays(model), base)
        training = {"optimizer": optimizer.state, "waiting": accumulated.total}
        _save_arrays(new / _TRAINING, named_arrays(training))
        files = {path.name: _digest(path) for path in sorted(new.iterdir())}
        manifest = _Manifest(
            format=_FORMAT,
            recipe=_values(recipe),
            state=state,
            accumulated_weight=accumulated.weight,
            accumulated_unit=accumulated.unit,
            files=files,
        )
        write_atomically(new / _STATE, path_json.encode(manifest))
    with _disk_errors(directory.path):
        _publish(directory, recipe, folder, state)
        if state.best_step == state.step:
            _bring_up_to_date(directory.best_adapter_file, folder / WEIGHTS_NAME)
        _prune(directory, state, recipe.keep_checkpoints)
    return folder


def finish_save(directory: RunDirectory, recipe: Recipe, found: Checkpoint) -> None:
    """Make every file beside the checkpoints that of this one, whatever a killed save left undone.

    The best adapter may be of a later step until now. Raises `StorageError`.
    """
    with _disk_errors(directory.path):
        _publish(directory, recipe, found.path, found.state)
        _align_best(directory, recipe, found.state)
        _prune(directory, found.state, recipe.keep_checkpoints)


def _publish(directory: RunDirectory, recipe: Recipe, folder: Path, state: TrainingState) -> None:
    """Copy a checkpoint's adapter into mlx-lm's layout."""
    config = adapters.config(recipe, directory.path)
    file = directory.adapter_config_file
    if not file.is_file() or file.read_bytes() != config:
        write_atomically(file, config)
    for target in (directory.numbered_adapter_file(state.step), directory.adapter_file):
        _bring_up_to_date(target, folder / WEIGHTS_NAME)


def _align_best(directory: RunDirectory, recipe: Recipe, state: TrainingState) -> None:
    if state.best_step is None:
        directory.best_adapter_file.unlink(missing_ok=True)
        return
    try:
        best = _read(_folder(directory, state.best_step), recipe)
    except _UnusableError:  # Old runs didn't keep the best checkpoint.
        return
    _bring_up_to_date(directory.best_adapter_file, best.path / WEIGHTS_NAME)


def _bring_up_to_date(target: Path, source: Path) -> None:
    if not target.is_file() or not _are_equal(target, source):
        _copy_atomically(source, target)


def clear_leftovers(directory: RunDirectory) -> None:
    """Remove what a killed save has left behind, and restore what it had set aside."""
    for old in directory.checkpoints.glob(".*.old"):
        folder = old.with_name(old.stem.removeprefix("."))
        with contextlib.suppress(OSError):
            if not folder.exists():
                old.rename(folder)
    for pattern in (".*.new", ".*.old"):
        for left in directory.checkpoints.glob(pattern):
            shutil.rmtree(left, ignore_errors=True)
    for pattern in (".*.new.safetensors", f".{directory.adapter_config_file.name}.new"):
        for left in directory.path.glob(pattern):
            with contextlib.suppress(OSError):
                left.unlink()


def _read(path: Path, recipe: Recipe) -> Checkpoint:
    """Raises `_UnusableError`."""
    try:
        manifest = path_json.decode((path / _STATE).read_bytes(), _MANIFEST)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        raise _UnusableError("is incomplete") from None
    if manifest.format != _FORMAT:
        raise _UnusableError("is of another version of mlxft-tui")
    changes = _changes(manifest.recipe, _values(recipe))
    if foreign := {key: change for key, change in changes.items() if key in _fixed()}:
        raise _ForeignError(foreign)
    if manifest.state.step != int(path.name):
        raise _UnusableError("is of another step")
    for name in (WEIGHTS_NAME, _TRAINING):
        try:
            damaged = _digest(path / name) != manifest.files.get(name)
        except OSError:
            damaged = True
        if damaged:
            raise _UnusableError(f"has a damaged {name}")
    return Checkpoint(
        path=path,
        state=manifest.state,
        accumulated_weight=manifest.accumulated_weight,
        accumulated_unit=manifest.accumulated_unit,
        changes=changes,
    )


def _values(recipe: Recipe) -> dict[str, Any]:
    """All of a recipe by dotted key, as JSON keeps it."""
    values = {key: recipes.get(recipe, key) for key in recipes.PARAMETERS}
    return path_json.decode(path_json.encode(values), msgspec.json.Decoder(dict[str, Any]))


def _changes(before: dict[str, Any], now: dict[str, Any]) -> dict[str, str]:
    """What differs, as ``old → new``; full fine-tuning has no rank to differ in."""
    before = dict(recipes.in_our_terms(*each) for each in before.items())
    full = before.get("fine_tune_type") == now["fine_tune_type"] == "full"
    return {
        key: f"{before[key]} → {value}"
        for key, value in now.items()
        if key in before
        and before[key] != value
        and not (full and key.startswith("lora_parameters."))
    }


def _folder(directory: RunDirectory, step: int) -> Path:
    return directory.checkpoints / f"{step:07d}"


def _folders(directory: RunDirectory) -> list[Path]:
    """The checkpoints by step; their names sort differently from ten million on."""
    try:
        folders = [path for path in directory.checkpoints.iterdir() if path.name.isdecimal()]
    except FileNotFoundError:
        return []
    return sorted(folders, key=lambda path: int(path.name))


def _prune(directory: RunDirectory, state: TrainingState, kept: int) -> None:
    """Remove all but the last few checkpoints and the best.

    Those newer than the state were refused: they aren't ours to remove.
    """
    ours = [path for path in _folders(directory) if int(path.name) <= state.step]
    for path in ours[:-kept]:
        if int(path.name) != state.best_step:
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Turn the errors of a full disk into a `StorageError`."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StorageError(
            f"{path}: the run can't be saved ({reason}); free disk space and resume it from its "
            "last checkpoint."
        ) from error


@contextmanager
def _replaced_folder(folder: Path) -> Iterator[Path]:
    """A new folder that replaces `folder` once it is filled and on disk."""
    # Without parents: a deleted run's folder must not be created again.
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    new, old = folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    new.mkdir(mode=0o700)
    try:
        yield new
        sync_folder(new)
        if folder.exists():
            folder.rename(old)
        try:
            new.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)


def _save_arrays(
    path: Path, arrays: dict[str, mx.array], more: Mapping[str, str] | None = None
) -> None:
    """Write arrays and flush them to disk. Raises `OSError` for a truncated file."""
    try:
        save_arrays(path, arrays, more=more)
        _sync_file(path)
        if not _is_complete(path):
            raise OSError("the file was cut short")
    except (OSError, RuntimeError):
        with contextlib.suppress(OSError):
            path.unlink()
        raise


def _copy_atomically(source: Path, target: Path) -> None:
    temporary = _temporary(target)
    try:
        shutil.copyfile(source, temporary)
        _sync_file(temporary)
        temporary.replace(target)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(target.parent)


def _temporary(target: Path) -> Path:
    # mlx appends the suffix to a name that lacks it.
    return target.with_name(f".{target.stem}.new{target.suffix}")


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_complete(path: Path) -> bool:
    """Whether a safetensors file has the length that its header implies."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    ends = [each["data_offsets"][1] for name, each in header.items() if name != "__metadata__"]
    return bool(path.stat().st_size == 8 + length + max(ends, default=0))


def _are_equal(one: Path, other: Path) -> bool:
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as a, other.open("rb") as b:
        return all(block == b.read(1 << 20) for block in iter(lambda: a.read(1 << 20), b""))


def _digest(path: Path) -> _Digest:
    size = checksum = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            size += len(block)
            checksum = zlib.crc32(block, checksum)
    return _Digest(size, checksum)


def _shapes(arrays: dict[str, mx.array]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in arrays.items()}


def _under(arrays: dict[str, mx.array], prefix: str) -> list[tuple[str, mx.array]]:
    return [
        (name.removeprefix(prefix), array)
        for name, array in arrays.items()
        if name.startswith(prefix)
    ]
