"""What runs did over their steps, tokens or time, kept so that many curves are drawn at once."""

from __future__ import annotations

import contextlib
import hashlib
import os
from array import array
from dataclasses import dataclass, fields
from functools import reduce
from itertools import accumulate
from pathlib import Path
from typing import Final, Literal

import msgspec

from mlxft.errors import StorageError
from mlxft.runs import lock
from mlxft.runs.directory import RunDirectory
from mlxft.runs.events import SampleAnswered
from mlxft.runs.journal import JournalReader
from mlxft.runs.steps import Steps
from mlxft.runs.view import RunView, fold
from mlxft.storage.atomic_files import write_atomically
from mlxft.storage.paths import cache_dir

Measure = Literal["loss", "validation", "learning_rate", "gradient", "memory"]
Axis = Literal["steps", "tokens", "time"]

_COLUMNS: Final[dict[Measure, str]] = {
    "loss": "mean_loss",
    "learning_rate": "learning_rate",
    "gradient": "gradient_norm",
    "memory": "peak_memory",
}

_VERSION: Final = 1


@dataclass(frozen=True, eq=False)
class Curves:
    """The points of a run's steps and validations, and its samples."""

    steps: Steps
    validations: tuple[tuple[int, float], ...]
    """Steps and losses; step 0 is before training."""
    samples: tuple[SampleAnswered, ...] = ()

    def points(self, measure: Measure, axis: Axis = "steps") -> tuple[array[float], array[float]]:
        """A measure over an axis: trained tokens, or seconds of training, up to each point.

        NaN where a step says nothing of it; memory in bytes.
        """
        along = self._along(axis)
        if measure != "validation":
            return along, getattr(self.steps, _COLUMNS[measure])
        places = array("d")
        at, step = 0, self.steps.step
        for validated, _ in self.validations:
            while at < len(step) and step[at] < validated:
                at += 1
            if axis == "steps":
                places.append(validated)
            else:
                last = min(at, len(along) - 1)
                places.append(along[last] if validated and last >= 0 else 0.0)
        return places, array("d", [loss for _, loss in self.validations])

    def _along(self, axis: Axis) -> array[float]:
        match axis:
            case "steps":
                return self.steps.step
            case "tokens":
                return array("d", accumulate(self.steps.tokens))
            case "time":
                return array("d", accumulate(self.steps.seconds))


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    """Curves as they are kept, and the journal they were read from."""

    version: int
    stamp: tuple[int, int, int]
    columns: dict[str, bytes]
    settled: int
    stride: int
    validations: tuple[tuple[int, float], ...]
    samples: tuple[SampleAnswered, ...]


_decoder = msgspec.msgpack.Decoder(_Kept)

_NAMES: Final = tuple(each.name for each in fields(Steps) if each.name not in ("settled", "stride"))


def read_curves(run: RunDirectory) -> Curves:
    """A run's curves; a journal that hasn't changed isn't read again."""
    try:
        found = run.journal_file.stat()
    except OSError:
        return Curves(Steps(), ())
    stamp = found.st_size, found.st_mtime_ns, found.st_ino
    file = _file(run)
    with contextlib.suppress(OSError, ValueError):
        kept = _decoder.decode(file.read_bytes())
        if (kept.version, kept.stamp) == (_VERSION, stamp):
            return _opened(kept)
    view = reduce(fold, JournalReader(run.journal_file).batches(), RunView())
    curves = curves_of(view)
    if view.ending is not None:
        _keep(file, curves, stamp)
    return curves


def curves_of(view: RunView) -> Curves:
    """The curves of a view."""
    validations = tuple((each.step, each.loss) for each in view.validations)
    return Curves(view.steps, validations, view.samples)


def _file(run: RunDirectory) -> Path:
    key = hashlib.sha256(os.fsencode(run.path.resolve())).hexdigest()[:16]
    return cache_dir() / "curves" / f"{key}.msgpack"


def _opened(kept: _Kept) -> Curves:
    columns = {name: array("d", data) for name, data in kept.columns.items()}
    steps = Steps(**columns, settled=kept.settled, stride=kept.stride)
    return Curves(steps, kept.validations, kept.samples)


def _keep(file: Path, curves: Curves, stamp: tuple[int, int, int]) -> None:
    """Write curves; a cache that can't be written is only slower."""
    steps = curves.steps
    kept = _Kept(
        _VERSION,
        stamp,
        {name: getattr(steps, name).tobytes() for name in _NAMES},
        steps.settled,
        steps.stride,
        curves.validations,
        curves.samples,
    )
    with contextlib.suppress(OSError, StorageError, UnicodeEncodeError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with lock.taken(file.with_name("lock"), patience=0) as held:
            if held is not None:
                write_atomically(file, msgspec.msgpack.encode(kept), durable=False)
