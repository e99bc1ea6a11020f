"""Answerers: the base model, the followed run's adapter and checkpoints, and other runs'."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, TypeAlias

from mlxft.errors import RecipeError
from mlxft.runs.directory import RunDirectory
from mlxft.runs.followed import FollowedRun
from mlxft.text.printable import printable_line

FOLLOWED: Final = ""
"""Stands for the name of the run being followed."""

_NUMBERED: Final = "[0-9]*_adapters.safetensors"


@dataclass(frozen=True)
class Answerer:
    """The weights that answer: the base model, a run's adapter, or one of its checkpoints."""

    run: str | None
    """The run's name, or `FOLLOWED`; None for the base model."""
    step: int | None = None
    """The checkpoint's step; None for the latest adapter."""

    @property
    def is_other_run(self) -> bool:
        """Whether it belongs to a run other than the followed one."""
        return bool(self.run)

    @property
    def kind(self) -> str:
        """What it is, in one word."""
        if self in (BASE, ADAPTER):
            return str(self)
        return "run" if self.is_other_run else "checkpoint"

    def title(self, step: int | None = None) -> str:
        """Its name on screen; `step` is the step the followed run's adapter is at."""
        if self in (BASE, ADAPTER):
            return str(self) if step is None or self == BASE else f"{self} · step {step}"
        name = printable_line(self.run or "") or "checkpoint"
        return name if self.step is None else f"{name} · step {self.step}"

    def __str__(self) -> str:
        """The form in history files: ``base``, ``adapter``, ``@100``, ``RUN@`` or ``RUN@100``."""
        if self.run is None:
            return "base"
        if self == ADAPTER:
            return "adapter"
        return f"{self.run}@{'' if self.step is None else self.step}"

    @classmethod
    def parse(cls, text: str) -> Answerer:
        """The inverse of `str`; other text is taken as a run's name."""
        if text in ("base", "adapter"):
            return BASE if text == "base" else ADAPTER
        run, at, step = text.rpartition("@")
        if not at or (step and not step.isdecimal()):
            return cls(text)
        return cls(run, int(step) if step else None)

    def named(self, followed: str) -> Answerer:
        """The same answerer with the followed run's name in place of `FOLLOWED`."""
        return replace(self, run=followed) if self.run == FOLLOWED else self

    def seen_from(self, followed: str) -> Answerer:
        """The same answerer with `FOLLOWED` in place of the followed run's name."""
        return replace(self, run=FOLLOWED) if followed and self.run == followed else self


BASE: Final = Answerer(None)
"""The base model."""

ADAPTER: Final = Answerer(FOLLOWED)
"""The followed run's latest adapter."""


@dataclass(frozen=True)
class Comparison:
    """The two answerers of the columns, and which of them answer the next prompt."""

    left: Answerer = BASE
    right: Answerer = ADAPTER
    asks: Literal["left", "right", "both"] = "right"

    def present(self, own: Collection[Answerer]) -> tuple[Answerer, ...]:
        """The two, without any the followed run lacks; `own` are the ones it has."""
        pair = (self.left, self.right)
        return tuple(each for each in pair if each in own or each.is_other_run) or (BASE,)

    def asked(self, own: Collection[Answerer]) -> tuple[Answerer, ...]:
        """Those that answer the next prompt, in column order."""
        found = self.present(own)
        return {"left": found[:1], "right": found[-1:], "both": found}[self.asks]

    @property
    def wanted(self) -> tuple[Answerer, ...]:
        """Those chosen to answer, available or not."""
        both = (self.left, self.right)
        return {"left": both[:1], "right": both[1:], "both": both}[self.asks]

    def choosing(self, *chosen: Answerer) -> Comparison:
        """The comparison that asks one, or two side by side."""
        if len(chosen) > 1:
            return Comparison(chosen[0], chosen[1], "both")
        if chosen[0] in (self.left, self.right):
            return replace(self, asks="left" if chosen[0] == self.left else "right")
        if chosen[0] == BASE:
            return replace(self, left=BASE, asks="left")
        return Comparison(BASE, chosen[0])


def in_training(run: FollowedRun | None) -> bool:
    """Whether an engine has the run's adapter in memory, or is about to."""
    return run is not None and run.live


def adapter_step(run: FollowedRun) -> int:
    """The step of the adapter that answers: the last saved one if the engine was killed."""
    saves = run.view.checkpoints
    return saves[-1].step if saves and not run.live else run.view.step


def own_answerers(run: FollowedRun | None) -> tuple[Answerer, ...]:
    """The base model, then the followed run's adapter and checkpoints, newest first."""
    if run is None or not (in_training(run) or run.directory.adapter_file.is_file()):
        return (BASE,)
    steps = [each.step for each in run.view.checkpoints]
    kept = [step for step in steps if run.directory.numbered_adapter_file(step).is_file()]
    return (BASE, ADAPTER, *(Answerer(FOLLOWED, step) for step in reversed(kept)))


def other_answerers(
    runs: Iterable[RunDirectory], followed: str, fits: Callable[[str], bool]
) -> Iterator[Answerer]:
    """The adapters and checkpoints of other runs whose model `fits`; reads their folders."""
    for run in runs:
        with contextlib.suppress(OSError, RecipeError):
            if run.name == followed or not fits(run.recipe().model):
                continue
            if run.adapter_file.is_file():
                yield Answerer(run.name)
            numbers = (file.name.partition("_")[0] for file in run.path.glob(_NUMBERED))
            steps = sorted((int(each) for each in numbers if each.isdecimal()), reverse=True)
            yield from (Answerer(run.name, step) for step in steps)


def adapter_path(answerer: Answerer, run: FollowedRun | None, adapters: Path) -> Path | None:
    """The absolute path of an adapter: a run's folder, or a file in it; None for the base.

    Absolute, since the engine's working directory differs from the viewer's.
    """
    if answerer == BASE:
        return None
    folder, step = adapters / (answerer.run or ""), answerer.step
    directory = RunDirectory(folder) if run is None or answerer.is_other_run else run.directory
    path = directory.path if step is None else directory.numbered_adapter_file(step)
    return path.absolute()


def title_with_run(title: str, run: str) -> str:
    """An adapter's or a checkpoint's title, with the run's name in place of that word."""
    kind, dot, step = title.partition(" · ")
    return f"{printable_line(run)}{dot}{step}" if kind in ("adapter", "checkpoint") else title


Rename: TypeAlias = Callable[[Answerer, str], tuple[Answerer, str]]
"""Maps an answerer and its title to their new names."""

NameOf: TypeAlias = Callable[[str], str]
"""Maps a run's folder to the name that people see."""


def renamed(
    answerer: Answerer, title: str, *, before: str, followed: str, name_of: NameOf = str
) -> tuple[Answerer, str]:
    """An answerer and its title after the followed run changed from `before` to `followed`."""
    new = answerer.named(before).seen_from(followed)
    return new, title_with_run(title, name_of(new.run)) if new.run else title
