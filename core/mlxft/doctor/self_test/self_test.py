"""Runs a self-test and writes its file."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

import mlxft
from mlxft.doctor.device import Device as Described
from mlxft.doctor.device import DeviceProbe
from mlxft.doctor.finding import Finding
from mlxft.doctor.privacy import cleaner, own_names
from mlxft.doctor.self_test.parts import PARTS, Context, checked
from mlxft.doctor.self_test.plan import Plan, plan_for
from mlxft.doctor.self_test.runs import Bench
from mlxft.doctor.self_test.watch import Watch
from mlxft.engine.machine import refuse_if_training, training_run
from mlxft.errors import EngineError, StorageError
from mlxft.memory.calibration import MeasuredPeak
from mlxft.runs import lock
from mlxft.self_test.calibration import Calibrated
from mlxft.self_test.checks import Check
from mlxft.self_test.figures import GradientFigures, ProductFigures, StepFigures
from mlxft.storage.atomic_files import write_atomically
from mlxft.telemetry.apple import Outputs, outputs
from mlxft.text import path_json

FILE: Final = "mlxft-self-test.json"
"""The file to share, in the project's folder unless another is named."""

_PREFIX: Final = ".self-test-"

_LOCK: Final = "self-test.lock"
"""Held as long as the self-test lives that its folder belongs to."""


class PartResult(msgspec.Struct, frozen=True):
    """The checks of one part."""

    title: str
    checks: Sequence[Check]


class SelfTest(msgspec.Struct, frozen=True, kw_only=True):
    """A whole self-test, without personal details: the checks, and all figures for calibration."""

    version: str
    system: str
    device: Described
    seconds: float
    parts: Sequence[PartResult]
    steps: dict[str, StepFigures]
    gradients: Sequence[GradientFigures]
    products: Sequence[ProductFigures]
    peaks: Sequence[MeasuredPeak]
    errors: Sequence[Calibrated]

    @property
    def checks(self) -> list[Check]:
        return [each for part in self.parts for each in part.checks]

    @property
    def has_difference(self) -> bool:
        """Whether anything differs from what it should be."""
        return any(each.outcome == "differs" for each in self.checks)


def self_test(
    project: Path,
    watch: Watch,
    *,
    app: Sequence[str] = (),
    plan: Plan | None = None,
    run: Outputs = outputs,
) -> SelfTest:
    """Measure this machine for some minutes; `app` is the command that opens the app.

    The plan is that of the device by default. Raises `RunError` while a run trains here,
    `EngineError` where MLX can't be loaded, `StorageError` if no folder can be written, and
    `CancelledError`; nothing is left running.
    """
    end_leftovers(project, watch)
    refuse_if_training(project / "adapters")
    device = DeviceProbe().described()
    if isinstance(device, Finding):
        raise EngineError(f"{device.seen}. {device.remedy or ''}".strip())
    kind = device.kind
    with bench_in(project, watch) as bench:
        context = Context(plan=plan or plan_for(kind), kind=kind, bench=bench, app=app, run=run)
        results = list(_results(context, watch))
    clean = cleaner(*own_names())
    return SelfTest(
        version=mlxft.__version__,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        device=device,
        seconds=round(watch.elapsed, 1),
        parts=[
            PartResult(title, [_without_names(each, clean) for each in found])
            for title, found in results
            if found
        ],
        steps=context.steps,
        gradients=context.gradients,
        products=context.products,
        peaks=context.peaks,
        errors=context.errors,
    )


def _results(context: Context, watch: Watch) -> Iterator[tuple[str, list[Check]]]:
    for number, (title, part) in enumerate(PARTS, start=1):
        watch.begin(title, number, len(PARTS))
        found = []
        for each in checked(context, title, part):
            found.append(each)
            watch.measuring(each.subject, each)
        yield title, found


def _without_names(check: Check, clean: Callable[[str], str]) -> Check:
    return Check(
        clean(check.subject), check.outcome, clean(check.seen), check.remedy and clean(check.remedy)
    )


@contextmanager
def bench_in(project: Path, watch: Watch) -> Iterator[Bench]:
    """A folder for runs on the project's disk; its engines are ended and it is deleted."""
    place = project if os.access(project, os.W_OK | os.X_OK) else None
    try:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
    except OSError as error:
        raise StorageError(
            f"{project}: no folder can be made for the self-test ({error.strerror})."
        ) from None
    with lock.taken(folder / _LOCK), _ended(Bench(folder, watch)) as bench:
        yield bench


@contextmanager
def _ended(bench: Bench) -> Iterator[Bench]:
    try:
        yield bench
    finally:
        bench.end()
        shutil.rmtree(bench.folder, ignore_errors=True)


def end_leftovers(project: Path, watch: Watch) -> None:
    """Kill the engines of killed self-tests, and delete their folders.

    They are found in the project, and anywhere by the run that still trains on this machine.
    Raises `StorageError`.
    """
    run = training_run()
    for each in (*project.glob(f"{_PREFIX}*"), *(run.parents if run else ())):
        file = each / _LOCK
        if each.name.startswith(_PREFIX) and file.is_file() and not lock.is_taken(file):
            with _ended(Bench(each, watch)):
                pass


def write(found: SelfTest, file: Path) -> None:
    """Write the file to share. Raises `StorageError`."""
    try:
        write_atomically(file, path_json.indented(found) + b"\n", 0o644)
    except OSError as error:
        raise StorageError(
            f"{file}: the self-test's file can't be written ({error.strerror}); name another "
            "with --out."
        ) from None
