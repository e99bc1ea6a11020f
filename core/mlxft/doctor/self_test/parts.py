"""The parts of a self-test, in order: each measures something and yields its checks."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from mlxft.doctor import mac
from mlxft.doctor.self_test import app_times, disk, runs
from mlxft.doctor.self_test.plan import Break, Plan, RunPlan, llama
from mlxft.doctor.self_test.runs import Bench
from mlxft.doctor.self_test.tools import answers_of_tools, awake_processes, tools_here
from mlxft.doctor.self_test.watch import OutOfTimeError
from mlxft.errors import MlxftError
from mlxft.memory.calibration import (
    SELF_TEST,
    MeasuredPeak,
    measured_peak,
    remember,
    remembered_peaks,
)
from mlxft.memory.fitted import BackendKind
from mlxft.recipe import Recipe, apply_settings
from mlxft.runs.directory import RunDirectory
from mlxft.self_test import checks
from mlxft.self_test.calibration import Calibrated, calibrated, corrected_parts, summary
from mlxft.self_test.checks import Check
from mlxft.self_test.figures import GradientFigures, ProductFigures, StepFigures, StepPoint
from mlxft.storage.atomic_files import write_atomically
from mlxft.storage.paths import demo_model, sample_data
from mlxft.telemetry.apple import Outputs, outputs


@dataclass
class Context:
    """What the parts share: the plan, the folder of the runs, and the figures so far."""

    plan: Plan
    kind: BackendKind
    bench: Bench
    app: Sequence[str] = ()
    """The command that opens the app; empty to leave it out."""
    run: Outputs = outputs
    """Runs the system's tools."""
    steps: dict[str, StepFigures] = field(default_factory=dict)
    gradients: list[GradientFigures] = field(default_factory=list)
    products: list[ProductFigures] = field(default_factory=list)
    peaks: list[MeasuredPeak] = field(default_factory=list)
    errors: list[Calibrated] = field(default_factory=list)

    def keep(self, peak: MeasuredPeak) -> Check:
        """Keep a peak for later estimates, and judge the estimate."""
        self.peaks.append(peak)
        remember(peak)
        largest = checks.largest_error(peak)
        subject = f"{peak.run.removeprefix(SELF_TEST)}: memory"
        return checks.estimate_check(subject, peak.estimated, peak.measured, largest)


MOST_STEPS: Final = 2000
"""Of the demo's run, which is stopped once its gauges were read."""

RELEASE_SECONDS: Final = 10.0
"""How long caffeinate may take to end after its run."""

Part = Callable[[Context], Iterator[Check]]
"""Yields the checks of a part. Raises `OutOfTimeError` if there is no time for the rest of it."""


def tools(context: Context) -> Iterator[Check]:
    """The system's tools that gauges and checks read."""
    wanted = tools_here(context.kind)
    if not wanted:
        yield Check("tools", "skipped", "none are needed here")
        return
    context.bench.watch.measuring("the system's tools")
    uses = {each.name: each.use for each in wanted}
    yield from checks.tool_checks(answers_of_tools(wanted, context.run), uses)


def disks(context: Context) -> Iterator[Check]:
    """The disk of the runs."""
    if context.plan.disk_bytes:
        context.bench.watch.measuring("writing files")
        yield from disk.checked(context.bench.folder, context.plan.disk_bytes)


def products(context: Context) -> Iterator[Check]:
    """Matrix products by kind of weights."""
    for request in context.plan.products:
        name = f"{request.bits}-bit" if request.bits else "dense"
        subject = f"{name} product, {request.tokens} tokens"
        found = context.bench.measuring.measured("product", request, ProductFigures, subject)
        if isinstance(found, Check):
            yield found
        else:
            context.products.append(found)
            yield checks.product_check(found)


def gradients(context: Context) -> Iterator[Check]:
    """Attention's and delta nets' gradients."""
    for request in context.plan.gradients:
        name = "delta net" if request.form == "recurrence" else f"attention, {request.form}"
        subject = f"{name}, heads of {request.head}"
        found = context.bench.measuring.measured("gradient", request, GradientFigures, subject)
        if isinstance(found, Check):
            yield found
        else:
            context.gradients.append(found)
            yield from checks.gradient_checks(found)


def steps(context: Context) -> Iterator[Check]:
    """Training steps of random models."""
    for point in context.plan.points:
        subject = point.subject
        found = context.bench.measuring.measured("step", point, StepFigures, subject)
        if isinstance(found, Check):
            yield found
            continue
        context.steps[subject] = found
        yield from checks.start_checks(point, found)
        yield context.keep(peak_of_step(point, found))
        if point.is_compared:
            yield checks.computation_check(point, found)
        speed = point.batch_size * point.tokens / max(found.seconds, 1e-9)
        yield Check(f"{subject}: speed", "noted", f"{speed:,.0f} tokens/s")


def peak_of_step(point: StepPoint, found: StepFigures) -> MeasuredPeak:
    """A measured step as the estimator remembers runs."""
    return measured_peak(
        run=f"{SELF_TEST}{point.subject}",
        recipe=apply_settings(Recipe(), point.settings),
        config=point.config,
        longest=point.tokens + 1,
        kind=found.device.kind,
        device=found.device.name,
        mlx=found.device.mlx,
        measured=found.peak,
        time=time.time(),
    )


# Runs

_TINY: Final = llama(64, 128, layers=3, heads=(4, 2), vocabulary=258)
_DEMO: Final = llama(384, 1024, layers=6, heads=(6, 2), vocabulary=258)


def demo(context: Context) -> Iterator[Check]:
    """A short training, and what the machine's gauges show meanwhile."""
    bench, plan = context.bench, context.plan.runs
    if plan is None:
        return
    model, name = str(demo_model()), "demo"
    if not plan.trains_demo or not demo_model().is_dir():
        model, name = str(bench.folder / "larger"), "random model in place of the demo"
        if (made := _model(bench, "larger", _DEMO, f"training: {name}")) is not None:
            yield made
            return
    awake = awake_processes(context.run)
    bench.watch.measuring(f"training: {name}")
    try:
        run = bench.start("demo", Recipe(model=model), *_demo_settings(bench, plan))
        bench.has_begun(run)
        awake_during = awake_processes(context.run)
        bench.stop_when_sampled(run, plan.demo_steps)
    except MlxftError as error:
        yield Check(f"training: {name}", "differs", str(error), None)
        return
    yield checks.loss_check(f"{name}: loss", *_ends(runs.losses(run)))
    for peak in remembered_peaks(bench.peaks):
        if peak.run == str(run.path):
            yield context.keep(_nameless(peak, name))
    yield from _gauges(context, run)
    if sys.platform == "darwin":
        # caffeinate sees the end of its process a moment later.
        released = set(awake_during) - set(awake)
        bench.watch.wait(lambda: not released & set(awake_processes(context.run)), RELEASE_SECONDS)
        yield checks.sleep_check(awake, awake_during, awake_processes(context.run))
        yield checks.watchdog_check(
            os.environ.get("AGX_RELAX_CDM_CTXSTORE_TIMEOUT"),
            _is_display_on(context.run),
            max(runs.step_seconds(run), default=0.0),
        )


def _demo_settings(bench: Bench, plan: RunPlan) -> tuple[str, ...]:
    """The same batch in each step, so that the loss falls within a few."""
    data = bench.folder / "records"
    data.mkdir()
    lines = (sample_data() / "train.jsonl").read_bytes().splitlines(keepends=True)
    write_atomically(data / "train.jsonl", b"".join(lines[:2]))
    return (
        f"data={data}",
        f"iters={MOST_STEPS}",
        "batch_size=2",
        "num_layers=4",
        f"max_seq_length={plan.demo_tokens}",
        "learning_rate=0.0001",
        "val_batches=0",
        "steps_per_report=1",
    )


def _ends(losses: Sequence[float]) -> tuple[float | None, float | None]:
    """The first and the last loss."""
    return (losses[0], losses[-1]) if len(losses) > 1 else (None, None)


def _nameless(peak: MeasuredPeak, name: str) -> MeasuredPeak:
    """The peak of the demo without this machine's folders."""
    recipe = {**peak.recipe, "model": "", "data": "data"}
    return msgspec.structs.replace(peak, run=f"{SELF_TEST}{name}", model="", recipe=recipe)


def _gauges(context: Context, run: RunDirectory) -> Iterator[Check]:
    """The sample with the most memory of MLX, against what other sources said then."""
    found = max(runs.samples(run), key=lambda each: each.active_memory or 0, default=None)
    if found is None:
        yield from checks.source_checks(None, {})
        return
    machine, driver = found.sample.memory_used, found.sample.gpu_memory_used
    sources: dict[BackendKind, dict[str, int | None]] = {
        "metal": {"vm_stat's memory in use": machine, "ioreg's allocation": driver},
        "cuda": {"NVML's memory in use": driver},
        "cpu": {"the process's memory": found.resident_memory, "memory in use": machine},
    }
    yield from checks.source_checks(found.active_memory, sources[context.kind])


def _is_display_on(run: Outputs) -> bool | None:
    asleep = mac.parse_displays(run([mac.DISPLAYS])[0])
    return None if asleep is None else not all(asleep)


def resumes(context: Context) -> Iterator[Check]:
    """Runs that are stopped, killed, and killed with a torn checkpoint, and resumed."""
    bench, plan = context.bench, context.plan.runs
    if plan is None or not plan.breaks:
        return
    if (made := _model(bench, "model", _TINY, "stop, kill and resume")) is not None:
        yield made
        return
    settings = (
        *runs.EXACT,
        f"data={bench.write_data()}",
        f"iters={plan.steps}",
        f"save_every={plan.save_every}",
    )
    recipe = apply_settings(Recipe(model=str(bench.folder / "model")), settings)
    done: dict[Break, RunDirectory] = {}
    try:
        bench.watch.measuring("a run without a break")
        undisturbed = bench.start("undisturbed", recipe)
        bench.has_ended(undisturbed)
        expected = _adapter(undisturbed) or b""
        for each in plan.breaks:
            bench.watch.measuring(_BREAKS[each][0])
            run = bench.start(each, recipe)
            yield _resumed(bench, run, expected, each)
            done[each] = run
    except OutOfTimeError:
        for each in plan.breaks[len(done) :]:
            yield checks.left_out(_BREAKS[each][0])
    except MlxftError as error:
        yield Check("runs", "differs", str(error), None)
    for each, run in done.items():
        yield _checkpoints(bench, run, each)


_BREAKS: Final[Mapping[Break, tuple[str, signal.Signals]]] = {
    "stop": ("stop and resume", signal.SIGTERM),
    "kill": ("kill -9 and resume", signal.SIGKILL),
    "torn": ("kill -9, torn checkpoint and resume", signal.SIGKILL),
}


def _resumed(bench: Bench, run: RunDirectory, expected: bytes, how: Break) -> Check:
    """A run that is broken and resumed, against the adapter of one without a break."""
    subject, number = _BREAKS[how]
    if not bench.break_after_saves(run, 2, number):
        return Check(subject, "skipped", "the run ended too quickly")
    if how == "torn":
        runs.tear_newest_checkpoint(run)
    bench.launch(run)
    ended = bench.has_ended(run)
    found = _adapter(run) if ended else None
    return checks.resume_check(subject, expected, found, runs.start_steps(run)[-1])


def _checkpoints(bench: Bench, run: RunDirectory, how: Break) -> Check:
    """Whether the checkpoints that such a run has left are intact."""
    subject = f"{_BREAKS[how][0]}: checkpoints"
    request = {"path": str(run.path)}
    listed = bench.measuring.measured("checkpoints", request, list[tuple[int, str | None]], subject)
    if isinstance(listed, Check):
        return listed
    damaged = [f"step {step} {reason}" for step, reason in listed if reason]
    return checks.checkpoint_check(subject, len(listed) - len(damaged), damaged)


def _adapter(run: RunDirectory) -> bytes | None:
    return run.adapter_file.read_bytes() if run.adapter_file.is_file() else None


def _model(bench: Bench, name: str, config: dict[str, Any], subject: str) -> Check | None:
    """Write a model's folder; the reason if that fails."""
    request = {"path": str(bench.folder / name), "config": config}
    made = bench.measuring.measured("model", request, str, subject)
    return made if isinstance(made, Check) else None


# The app


def app(context: Context) -> Iterator[Check]:
    """How long the app takes to start and to paint what a key changes."""
    if not context.app:
        return
    bench = context.bench
    bench.watch.need_time()
    bench.watch.measuring("the app in a terminal of 120×40")
    project = bench.folder / "project"
    project.mkdir()
    write_atomically(project / "recipe.yaml", f"model: ''\ndata: '{sample_data()}'\n".encode())
    paint, keys = app_times.measured(context.app, project, context.plan.keys, bench.watch)
    yield from checks.key_checks(paint, keys)


def calibration(context: Context) -> Iterator[Check]:
    """What the peaks teach the estimator."""
    if context.peaks:
        context.errors = calibrated(context.peaks)
        yield Check("estimates", "noted", summary(context.errors))
        yield Check("corrections", "noted", corrected_parts(context.peaks))


PARTS: Final[tuple[tuple[str, Part], ...]] = (
    ("Tools", tools),
    ("Disk", disks),
    ("App", app),
    ("Gradients", gradients),
    ("Training", demo),
    ("Resume", resumes),
    ("Steps", steps),
    ("Products", products),
    ("Calibration", calibration),
)
"""Title and function of each part, in order: those for which CUDA compiles for long come last, as
they may be left out."""


def checked(context: Context, title: str, part: Part) -> Iterator[Check]:
    """The checks of a part; the rest of one that has no time is left out."""
    try:
        yield from part(context)
    except OutOfTimeError:
        yield checks.left_out(f"the rest of {title}")
