"""What measured figures mean: each function judges some and names the remedy."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec

from mlxft.memory.calibration import ERRORS, MeasuredPeak
from mlxft.self_test.figures import GradientFigures, ProductFigures, StepFigures, StepPoint
from mlxft.text import figures

Outcome = Literal["passed", "differs", "noted", "skipped", "left_out"]
"""`noted` is measured without a right or wrong; `skipped` could not be done here, and `left_out`
had no time."""


class Check(msgspec.Struct, frozen=True):
    """One line of the self-test's table, with its remedy if something differs."""

    subject: str
    outcome: Outcome
    seen: str
    remedy: str | None = None


REPORT: Final = "attach the self-test's file to an issue"

LARGEST_ERROR: Final = 0.15
"""Of an estimate, as a share of the measured peak, where no better is known of the backend."""

BUFFERED: Final = 32_000_000
"""Bytes that a GPU's command buffers hold until they end, most of a tiny model's peak."""

DIFFERENCES: Final[Mapping[str, float]] = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 5e-2}
"""How far rounding may move a product or a gradient, by type. A GPU rounds float32's factors to
TF32, and a wrong kernel is off by far more."""

GPU_FLOAT32: Final = 1e-2

KEPT_SHARE: Final = 0.5
"""Of what would be kept, from which on it is."""

SLOW_DISK: Final = 40e6
"""Bytes a second that reach the disk, below which saving takes notable time."""

SLOW_SAVE: Final = 0.25
"""Seconds of a small file's way to the disk."""

SLOW_KEY: Final = 0.1
"""Seconds from a key to its paint that are noticed."""


def left_out(subject: str) -> Check:
    """What was not measured for lack of time."""
    return Check(subject, "left_out", "not measured, no time was left")


def estimate_check(subject: str, estimated: int, measured: int, largest: float) -> Check:
    """An estimate of memory against MLX's measured peak, both in bytes."""
    error = estimated / measured - 1
    seen = f"{figures.size(measured)}, estimated {figures.size(estimated)} ({error:+.1%})"
    if abs(error) <= largest:
        return Check(subject, "passed", seen)
    later = "Later estimates on this machine are corrected by what was measured"
    return Check(subject, "differs", seen, f"{later}; {REPORT}.")


def largest_error(peak: MeasuredPeak) -> float:
    """The error that an estimate may have, as a share of the peak."""
    largest = ERRORS[peak.kind] or LARGEST_ERROR
    return largest if peak.kind == "cpu" else max(largest, BUFFERED / peak.measured)


def start_checks(point: StepPoint, found: StepFigures) -> list[Check]:
    """What a run of the model would do otherwise than its recipe, which a llama doesn't need."""
    subject = f"{point.subject}: start checks"
    remedy = f"Runs on this device need more memory than estimated; update mlx, and {REPORT}."
    return [Check(subject, "differs", each, remedy) for each in found.warnings]


def computation_check(point: StepPoint, found: StepFigures) -> Check:
    """A step's loss and gradient against the plain float32 CPU computation."""
    subject = f"{point.subject}: loss and gradient"
    if found.plain_loss is None or found.gradient_difference is None:
        return Check(subject, "skipped", "not compared")
    off = abs(found.loss - found.plain_loss) / max(abs(found.plain_loss), 1e-9)
    worst = max(off, found.gradient_difference)
    seen = f"loss {found.loss:.5f}, plain {found.plain_loss:.5f}; gradient off by {worst:.1e}"
    if worst <= allowed(found.dtype, found.device.kind):
        return Check(subject, "passed", seen)
    return Check(subject, "differs", seen, _wrong("Runs of such models would learn wrongly"))


def allowed(dtype: str, kind: str) -> float:
    """The relative difference that rounding explains."""
    if dtype == "float32" and kind != "cpu":
        return GPU_FLOAT32
    return DIFFERENCES.get(dtype, DIFFERENCES["bfloat16"])


def gradient_checks(found: GradientFigures) -> list[Check]:
    """Whether an operation's gradient is right, and what it keeps."""
    right = f"{found.subject}, {found.tokens} tokens"
    seen = f"off by {found.difference:.1e} from float32 on the CPU"
    is_right = found.difference <= allowed(found.dtype, found.device.kind)
    checks = [
        Check(right, "passed", seen)
        if is_right
        else Check(right, "differs", seen, _wrong(_ATTENTION[found.form == "recurrence"]))
    ]
    return [*checks, _memory_check(found)]


_ATTENTION: Final = (
    "Train with attention: blocks in the recipe",
    "Don't train such models on this device",
)


def _memory_check(found: GradientFigures) -> Check:
    short, long = found.lengths
    subject = f"{found.subject}, memory"
    trained, own = (_growth(found, each) for each in (found.trained, found.own))
    keeps, own_keeps = (each > KEPT_SHARE * found.kept for each in (trained, own))
    what = "the state of every token" if found.form == "recurrence" else "all scores"
    sizes = " and ".join(figures.size(each) for each in found.trained)
    seen = f"{sizes} for {short} and {long} tokens"
    seen += f"; MLX's own {'keeps ' + what if own_keeps else 'is fused'}"
    if not keeps:
        return Check(subject, "passed", seen)
    remedy = f"Its gradient keeps {what}: train shorter rows, or set attention: blocks; {REPORT}."
    return Check(subject, "differs", seen, remedy)


def _growth(found: GradientFigures, peaks: tuple[int, int]) -> float:
    """What the longer row takes more; of attention, more than by its length."""
    short, long = found.lengths
    share = 1.0 if found.form == "recurrence" else long / short
    return peaks[1] - share * peaks[0]


def product_check(found: ProductFigures) -> Check:
    """A product's speed, and whether it is right."""
    subject = f"{found.subject} product, {found.tokens} tokens"
    seen = f"forward {found.forward:.0f}, backward {found.backward:.0f} GFLOP/s"
    if found.unpacked_forward is not None and found.unpacked_backward is not None:
        seen += f" (unpacked {found.unpacked_forward:.0f} and {found.unpacked_backward:.0f})"
    if found.difference <= allowed(found.dtype, found.device.kind):
        return Check(subject, "passed", seen)
    seen += f"; off by {found.difference:.1e} from float32 on the CPU"
    way = "Set quantized_products: unpacked in the recipe" if "bit" in found.subject else ""
    return Check(subject, "differs", seen, _wrong(way or "Don't train on this device"))


def _wrong(what: str) -> str:
    return f"A kernel of mlx computes something else here. {what}; update mlx, and {REPORT}."


def disk_checks(bytes_per_second: float, save_seconds: float) -> list[Check]:
    """How fast the disk of the runs takes a large file, and a small one that is flushed."""
    remedy = "Checkpoints on this disk hold a run up: choose a folder on a local disk with --dir."
    speed = f"{figures.size(bytes_per_second)} a second reach the disk"
    save = f"{1000 * save_seconds:.0f} ms until a small file is on the disk"
    return [
        Check("large files", "passed", speed)
        if bytes_per_second >= SLOW_DISK
        else Check("large files", "differs", speed, remedy),
        Check("small files", "passed", save)
        if save_seconds <= SLOW_SAVE
        else Check("small files", "differs", save, remedy),
    ]


def tool_checks(answers: Mapping[str, bool | None], uses: Mapping[str, str]) -> list[Check]:
    """The system's tools: True for one that answered what is read from it, False for another
    answer, None for none; `uses` says what each is for."""
    return [_tool(name, answered, uses[name]) for name, answered in answers.items()]


def _tool(name: str, answered: bool | None, use: str) -> Check:
    if answered:
        return Check(name, "passed", "answers")
    seen = "gives no answer" if answered is None else "its answer can't be read"
    return Check(
        name, "differs", seen, f"Without it {use} is not known: check that {name} runs; {REPORT}."
    )


def resume_check(subject: str, expected: bytes, found: bytes | None, step: int | None) -> Check:
    """A resumed run's adapter against that of an undisturbed one; `step` is where it resumed."""
    if found is None:
        return Check(subject, "differs", "the run did not end", f"See its log, and {REPORT}.")
    if step == 0:
        seen = "no checkpoint was used; the run started over"
        return Check(subject, "differs", seen, f"Check the disk; {REPORT}.")
    if found != expected:
        seen = f"resumed from step {step}; another adapter than without a break"
        return Check(subject, "differs", seen, f"A resume is not exact here; {REPORT}.")
    return Check(subject, "passed", f"resumed from step {step}; the same adapter, bit by bit")


def checkpoint_check(subject: str, intact: int, damaged: Sequence[str]) -> Check:
    """The checkpoints of a run: how many are intact, and what is wrong with the others."""
    if not damaged:
        return Check(subject, "passed", f"{intact} intact")
    seen = f"{intact} intact, {len(damaged)} damaged: {damaged[0]}"
    remedy = "Check the disk (a checksum differs from what was written); choose another with --dir."
    return Check(subject, "differs", seen, remedy)


def loss_check(subject: str, first: float | None, last: float | None) -> Check:
    """A short training's losses: they must fall."""
    if first is None or last is None:
        return Check(subject, "differs", "no step was trained", f"See the run's log; {REPORT}.")
    seen = f"loss {first:.3f} → {last:.3f}"
    if last < first:
        return Check(subject, "passed", seen)
    return Check(subject, "differs", seen, f"The loss must fall within a few steps; {REPORT}.")


def source_checks(
    active: int | None, sources: Mapping[str, int | None], least: float = 0.5
) -> list[Check]:
    """What other sources say while MLX has `active` bytes: a machine's memory in use, the driver's
    allocation and a process's memory are at least a good part of it."""
    if not active:
        return [Check("memory", "skipped", "no sample was taken while the run trained")]
    return [_source(name, value, active, least) for name, value in sources.items()]


def _source(name: str, value: int | None, active: int, least: float) -> Check:
    if value is None:
        return Check(name, "skipped", "no figure here")
    seen = f"{figures.size(value)} while MLX has {figures.size(active)}"
    if value >= least * active:
        return Check(name, "passed", seen)
    return Check(name, "differs", seen, f"This gauge is wrong on this machine; {REPORT}.")


def sleep_check(before: Sequence[int], during: Sequence[int], after: Sequence[int]) -> Check:
    """Whether a run's caffeinate kept the Mac awake, from the processes that hold an assertion
    before, during and after the run."""
    subject = "caffeinate"
    own = set(during) - set(before)
    if not own:
        remedy = f"Before a long run: sudo pmset -c sleep 0; {REPORT}."
        return Check(subject, "differs", "held no assertion during the run", remedy)
    if own & set(after):
        remedy = f"End it with kill {min(own & set(after))}; {REPORT}."
        return Check(subject, "differs", "still holds its assertion after the run", remedy)
    return Check(subject, "passed", "held an assertion during the run and none after it")


def watchdog_check(relaxed: str | None, display_on: bool | None, longest_step: float) -> Check:
    """macOS's limit on GPU work while a display is on; `longest_step` in seconds."""
    displays = {None: "display not known", True: "a display is on", False: "no display is on"}
    words = f"{displays[display_on]}; AGX_RELAX_CDM_CTXSTORE_TIMEOUT is {relaxed or 'not set'}"
    words += f"; the longest step took {longest_step:.1f} s"
    return Check("GPU watchdog", "noted", words)


def key_checks(paint: float | None, keys: Sequence[float]) -> list[Check]:
    """Seconds until the app's first paint, and from keys to their paints."""
    if paint is None or not keys:
        remedy = f"Open the app with mlxft-tui; if it fails, {REPORT}."
        return [Check("app", "differs", "painted nothing", remedy)]
    middle, worst = statistics.median(keys), max(keys)
    seen = f"{1000 * middle:.0f} ms in the middle, {1000 * worst:.0f} ms at most"
    slow = middle > SLOW_KEY
    slower = f"Keys are slow here: close other programs; {REPORT}."
    return [
        Check("first paint", "noted", f"after {paint:.2f} s"),
        Check("key to paint", "differs", seen, slower)
        if slow
        else Check("key to paint", "passed", seen),
    ]
