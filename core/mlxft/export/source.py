"""Which of an adapter's files is exported, and where they come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlxft.adapters.found import FoundAdapter
from mlxft.errors import RunError
from mlxft.export.model_card import Origin
from mlxft.runs.directory import RunDirectory
from mlxft.runs.followed import read_run

BEST: Final = "best"
"""The checkpoint with the lowest validation loss."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is exported of an adapter."""

    weights: Path
    """The adapter's folder, or the file of one of its checkpoints."""
    origin: Origin


def source_of(adapter: FoundAdapter, checkpoint: str | None) -> Source:
    """An adapter after its last save, or at a checkpoint: a step, or `BEST`. Raises `RunError`."""
    weights = _weights(adapter, checkpoint)
    return Source(weights=weights, origin=_origin(adapter, checkpoint))


def saved_steps(run: RunDirectory) -> tuple[int, ...]:
    """The steps after which a run's adapter was saved under a name of its own, in order."""
    names = (each.name[:7] for each in run.path.glob("[0-9]*_adapters.safetensors"))
    return tuple(sorted(int(each) for each in names if each.isdecimal()))


def _weights(adapter: FoundAdapter, checkpoint: str | None) -> Path:
    if checkpoint is None:
        return adapter.path
    if not adapter.path.is_dir():
        raise RunError(f"{adapter.name}: --checkpoint needs a run; this is a file already.")
    run = RunDirectory(adapter.path)
    if checkpoint == BEST:
        file = run.best_adapter_file
    elif checkpoint.isdecimal():
        file = run.numbered_adapter_file(int(checkpoint))
    else:
        raise RunError(f"--checkpoint is {checkpoint}; it must be a step, or {BEST}.")
    if not file.is_file():
        listed = ", ".join(map(str, saved_steps(run))) or "none"
        raise RunError(f"{file}: this checkpoint doesn't exist; saved are those of steps {listed}.")
    return file


def _origin(adapter: FoundAdapter, checkpoint: str | None) -> Origin:
    if not adapter.is_run or not adapter.path.is_dir():
        return Origin(run=adapter.name)
    view = read_run(RunDirectory(adapter.path)).view
    steps = int(checkpoint) if checkpoint and checkpoint.isdecimal() else None
    if checkpoint is None and view is not None:
        steps = view.step
    validation = tuple((each.step, each.loss) for each in view.validations) if view else ()
    return Origin(run=adapter.name, steps=steps, validation=validation)
