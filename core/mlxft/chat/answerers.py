"""Who can answer: the base, the adapter of the run that is followed, checkpoints, other runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from mlxft.errors import RecipeError
from mlxft.runs.directory import RunDirectory
from mlxft.runs.followed import FollowedRun
from mlxft.text.printable import printable_line

Side: TypeAlias = str
"""``base``, ``adapter`` (the followed run's), ``@100`` (a checkpoint of it), or another run's:
``RUN@`` and ``RUN@100``."""

BASE: Side = "base"
ADAPTER: Side = "adapter"

_NUMBERED = "[0-9]*_adapters.safetensors"


@dataclass(frozen=True)
class Comparison:
    """Two sides that are compared, and which of them is asked."""

    left: Side = BASE
    right: Side = ADAPTER
    asks: Literal["left", "right", "both"] = "right"

    def present(self, own: Collection[Side]) -> tuple[Side, ...]:
        """The sides but for what the followed run, which has its `own`, has not got."""
        found = tuple(each for each in (self.left, self.right) if each in own or run_of(each))
        return found or (BASE,)

    def asked(self, own: Collection[Side]) -> tuple[Side, ...]:
        """Who answers, in the order of the columns."""
        found = self.present(own)
        return {"left": found[:1], "right": found[-1:], "both": found}[self.asks]

    @property
    def wanted(self) -> tuple[Side, ...]:
        """Who was chosen to answer, there or not."""
        both = (self.left, self.right)
        return {"left": both[:1], "right": both[1:], "both": both}[self.asks]

    def choosing(self, *chosen: Side) -> Comparison:
        """The comparison that asks one, or two side by side."""
        if len(chosen) > 1:
            return Comparison(chosen[0], chosen[1], "both")
        if chosen[0] in (self.left, self.right):
            return replace(self, asks="left" if chosen[0] == self.left else "right")
        if chosen[0] == BASE:
            return replace(self, left=BASE, asks="left")
        return Comparison(BASE, chosen[0])


def saved(step: int | None, run: str = "") -> Side:
    """A run's adapter as it was after a step, or as it is; an empty run is the followed one."""
    return f"{run}@{'' if step is None else step}" if run or step is not None else ADAPTER


def step_of(side: Side) -> int | None:
    """A checkpoint's step; None for another side."""
    step = side.rpartition("@")[2]
    return int(step) if "@" in side and step else None


def run_of(side: Side) -> str:
    """The name of the other run that a side is of; empty for the base and the followed run."""
    return side.rpartition("@")[0]


def in_training(run: FollowedRun | None) -> bool:
    """Whether an engine has the run's adapter in memory, or is about to."""
    return run is not None and run.live


def adapter_step(run: FollowedRun) -> int:
    """The step of the adapter that answers: an engine that was killed had gone further than that
    which it last saved."""
    saves = run.view.checkpoints
    return saves[-1].step if saves and not run.live else run.view.step


def own_sides(run: FollowedRun | None) -> tuple[Side, ...]:
    """The base, and of the followed run the adapter and the checkpoints, the newest first."""
    if run is None or not (in_training(run) or run.directory.adapter_file.is_file()):
        return (BASE,)
    steps = [each.step for each in run.view.checkpoints]
    kept = [step for step in steps if run.directory.numbered_adapter_file(step).is_file()]
    return (BASE, ADAPTER, *(saved(step) for step in reversed(kept)))


def other_sides(
    runs: Iterable[RunDirectory], followed: str, fits: Callable[[str], bool]
) -> Iterator[Side]:
    """The adapters and checkpoints of other runs whose model `fits`; reads their folders."""
    for run in runs:
        with contextlib.suppress(OSError, RecipeError):
            if run.name == followed or not fits(run.recipe().model):
                continue
            if run.adapter_file.is_file():
                yield saved(None, run.name)
            numbers = (file.name.partition("_")[0] for file in run.path.glob(_NUMBERED))
            steps = sorted((int(each) for each in numbers if each.isdecimal()), reverse=True)
            yield from (saved(step, run.name) for step in steps)


def named_in_full(side: Side, followed: str) -> Side:
    """A side of the followed run by that run's name, as it is to be remembered."""
    if side == BASE or run_of(side) or not followed:
        return side
    return saved(step_of(side), followed)


def named_from(side: Side, followed: str) -> Side:
    """A side named in full, as it is called while a run is followed."""
    return saved(step_of(side)) if followed and run_of(side) == followed else side


def adapter_path(side: Side, run: FollowedRun | None, adapters: Path) -> Path | None:
    """Where a side's adapter is on disk: a run's folder, or a file in it; None for the base.

    In full, since an engine stands in another folder than the viewer.
    """
    if side == BASE:
        return None
    name, step = run_of(side), step_of(side)
    directory = RunDirectory(adapters / name) if name or run is None else run.directory
    path = directory.path if step is None else directory.numbered_adapter_file(step)
    return path.absolute()


def titled(side: Side, step: int | None = None) -> str:
    """A side in words; `step` is where the followed run is."""
    if side in (BASE, ADAPTER):
        return side if step is None or side == BASE else f"{side} · step {step}"
    at, name = step_of(side), printable_line(run_of(side))
    if not name:
        return f"checkpoint · step {at}"
    return name if at is None else f"{name} · step {at}"


def titled_in_full(title: str, run: str) -> str:
    """A title that was given while a run was followed, in words that name the run."""
    kind, dot, step = title.partition(" · ")
    return f"{printable_line(run)}{dot}{step}" if kind in (ADAPTER, "checkpoint") else title


NameAnew: TypeAlias = Callable[[Side, str], tuple[Side, str]]
"""What a side with its title is called from now on."""


def named_anew(side: Side, title: str, run: str, instead: str) -> tuple[Side, str]:
    """A side, with its title, once another run is followed instead of one."""
    new = named_from(named_in_full(side, run), instead)
    return new, titled_in_full(title, run) if run_of(new) else title
