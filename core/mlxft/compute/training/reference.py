"""The log-probabilities of answers before training, which DPO, IPO and KTO compare with.

They are computed once, before the first step, of the weights as they are then: the model without
its adapter, or with the one that the recipe starts from. So no second model is needed and no pass
of each step, and full fine-tuning has a reference too. Each answer's is computed in its batch of
the first epoch, and only for batches that the run comes to, so it is the same however often a run
is stopped, resumed or lengthened. Runs that differ in other ways share the file they are kept in.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mlxft import recipe as recipes
from mlxft.compute import backend
from mlxft.compute.training.batches import TokenizedSplit
from mlxft.compute.training.preference_batches import PreferenceSplit
from mlxft.compute.training.step import Stepper
from mlxft.compute.training.validation import validation_batches
from mlxft.data.batch_plan import Batch
from mlxft.recipe import WITH_REFERENCE, Recipe
from mlxft.runs import events as ev
from mlxft.runs.events import AnyEvent
from mlxft.storage.atomic_files import write_atomically
from mlxft.storage.paths import cache_dir, expanded

KEPT: Final = 64
"""Newest files kept."""

_VERSION: Final = 1
"""Raised when the same data and model give other values, to invalidate older files."""

_SECONDS_BETWEEN_SAVES: Final = 30.0


def find(
    recipe: Recipe,
    model: Path,
    stepper: Stepper,
    splits: tuple[TokenizedSplit, TokenizedSplit],
    emit: Callable[[AnyEvent], object],
    keep_going: Callable[[], bool],
) -> bool:
    """Fill in the reference of the train and valid splits, where the recipe's loss has one.

    The stepper's model must be as it is before the first step. Returns whether all was found before
    `keep_going` returned False; what was found until then is kept.
    """
    if recipe.loss not in WITH_REFERENCE:
        return True
    train, valid = splits
    assert isinstance(train, PreferenceSplit)
    assert isinstance(valid, PreferenceSplit)
    needed = (
        (train, train.plan.epoch(0)[: recipe.iters]),
        (valid, validation_batches(valid.plan, recipe.val_batches)),
    )
    total, done = sum(len(batches) for _, batches in needed), 0
    for split, batches in needed:
        kept = _Kept(_file(recipe, model, split), split)
        for batch in batches:
            if kept.lacks(batch):
                emit(ev.ProgressMade(stage="reference", done=done, total=total))
                if not keep_going():
                    kept.save()
                    return False
                _compute(stepper, split, batch)
                kept.save_sometimes()
            done += 1
        kept.save()
    return True


def _compute(stepper: Stepper, split: PreferenceSplit, batch: Batch) -> None:
    arrays = stepper.arrays(split, batch)
    own = stepper.log_probabilities(arrays)
    split.keep_reference(batch, _numbers(own), other=False)
    if arrays.mismatched is not None:
        others = stepper.log_probabilities(arrays.mismatched)
        split.keep_reference(batch, _numbers(others), other=True)


def _numbers(logps: mx.array) -> NDArray[np.float32]:
    return np.array(logps.astype(mx.float32))


class _Kept:
    """The file of a split's reference; values that aren't known yet are NaN."""

    def __init__(self, file: Path, split: PreferenceSplit) -> None:
        self._file, self._split = file, split
        split.reference.fill(np.nan)
        with contextlib.suppress(OSError, ValueError):
            found = np.frombuffer(file.read_bytes(), np.float32)
            split.reference[:] = found.reshape(split.reference.shape)
        self._changed = False
        self._saved = time.monotonic()

    def lacks(self, batch: Batch) -> bool:
        """Whether any of the batch's answers is not known."""
        missing = bool(np.isnan(self._split.reference[list(batch.sequences)]).any())
        self._changed |= missing
        return missing

    def save_sometimes(self) -> None:
        """Save if that was long ago."""
        if time.monotonic() - self._saved > _SECONDS_BETWEEN_SAVES:
            self.save()

    def save(self) -> None:
        """Keep what is known; does nothing if the cache can't be written."""
        if not self._changed:
            return
        self._saved = time.monotonic()
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(self._file, self._split.reference.tobytes(), durable=False)
            by_age = sorted(self._file.parent.iterdir(), key=lambda each: each.stat().st_mtime)
            for old in by_age[:-KEPT]:
                old.unlink(missing_ok=True)


def _file(recipe: Recipe, model: Path, split: PreferenceSplit) -> Path:
    """Where the reference of this data by this model, in these batches, is kept."""
    plan, adapter = split.plan, recipe.resume_adapter_file
    files = sorted((model / "config.json", *model.glob("*.safetensors")))
    key = (
        _VERSION,
        sorted(backend.versions().items()),
        backend.kind(),
        _stamps(files),
        _adapter_files(expanded(adapter)) if adapter else None,
        # DoRA computes the same otherwise than the plain layers, in other digits.
        _layers(recipe) if adapter or recipe.fine_tune_type == "dora" else None,
        split.checksum,
        (plan.batch_size, plan.max_seq_length, plan.seed, plan.packing),
        recipe.loss == "kto",
    )
    digest = hashlib.blake2b(repr(key).encode("utf-8", "surrogateescape"), digest_size=16)
    return cache_dir() / "reference" / f"{digest.hexdigest()}.f32"


def _adapter_files(path: Path) -> list[tuple[str, int, int]]:
    return _stamps(sorted(path.glob("*")) if path.is_dir() else [path])


def _stamps(files: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Path, time and size of each file that there is."""
    found = ((each, each.stat()) for each in files if each.is_file())
    return [(str(each.absolute()), stat.st_mtime_ns, stat.st_size) for each, stat in found]


def _layers(recipe: Recipe) -> tuple[object, ...]:
    keys = ("fine_tune_type", "num_layers", "lora_parameters.keys")
    return tuple(recipes.get(recipe, key) for key in keys)
