"""A run on a machine that has no kernels for its recurrent layers, until its steps are compiled.

A run of its own engine, as ``mlxft-tui train`` starts it, with folders of its own for MLX's kernels
and for what the driver keeps of them.
"""

from __future__ import annotations

import json
import os
import random
import signal
import statistics
import string
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
os.environ["PYTHONPATH"] = os.pathsep.join(each for each in sys.path if each)

from figures import own_folders
from mlxft.engine.launch import launch_training
from mlxft.recipe import Recipe, apply_settings
from mlxft.runs import events as ev
from mlxft.runs import lock
from mlxft.runs.directory import RunDirectory, create
from mlxft.runs.journal import JournalReader
from support.new_gpu import write_new_gpu

MADE = "the kernels are made"
UNCOMPILED = "stay uncompiled"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Rows of so many tokens; compiled steps to train after the switch; seconds for everything.

    `pretends` has a CPU decide as an NVIDIA GPU does: it compiles nothing, so that only shows how
    the run gets there.
    """

    rows: int
    tokens: int
    steps: int
    seconds: float
    pretends: bool = False


def measure(write_model: Callable[[Path], object], wanted: Wanted) -> dict[str, Any]:
    """A run until so many steps are compiled, and the first steps of a second one.

    `write_model` writes the model's folder, in a process of its own.
    """
    end = time.monotonic() + wanted.seconds
    with own_folders() as folder:
        kernels = folder / "gpu" / "ptx"
        environment = write_new_gpu(folder / "gpu")
        if not wanted.pretends:
            del environment["PYTHONPATH"]
        os.environ.update(environment)
        os.environ["CUDA_CACHE_PATH"] = str(folder / "driver")
        _note("writing the model and the data")
        write_model(folder / "model")
        _write_data(folder / "data", wanted)
        recipe = _recipe(folder, wanted)
        begun = time.time()
        first = _run(create(folder / "adapters", recipe, "first"), wanted, end, kernels)
        found = _figures(first, wanted, begun, kernels)
        if found["made"]:
            begun = time.time()
            later = _run(create(folder / "adapters", recipe, "later"), wanted, end, kernels)
            trained = [each for each in later.events if isinstance(each, ev.StepFinished)]
            found["later_first_step"] = round(trained[0].time - begun, 2) if trained else None
            found["later_said"] = _said(later.events)
    return found


@dataclass
class _Followed:
    """A run's events, and how many kernels there were when it said what it waited for."""

    events: list[ev.AnyEvent]
    kernels_at_switch: int | None = None
    log: str = ""


def _recipe(folder: Path, wanted: Wanted) -> Recipe:
    recipe = Recipe(
        model=str(folder / "model"),
        data=str(folder / "data"),
        batch_size=wanted.rows,
        num_layers=-1,
        grad_checkpoint=True,
        max_seq_length=wanted.tokens + 1,
        iters=1_000_000,
        val_batches=0,
        save_every=1_000_000,
    )
    return apply_settings(recipe, ["prevent_sleep=false"])


def _write_data(folder: Path, wanted: Wanted) -> None:
    """Records that fill a row: the tokenizer has a token for each byte."""
    folder.mkdir()
    letters = random.Random(0)
    lines = [
        json.dumps({"text": "".join(letters.choices(string.ascii_letters, k=wanted.tokens + 9))})
        for _ in range(8 * wanted.rows)
    ]
    for split in ("train", "valid"):
        (folder / f"{split}.jsonl").write_text("".join(f"{each}\n" for each in lines))


def _run(run: RunDirectory, wanted: Wanted, end: float, kernels: Path) -> _Followed:
    """Train until so many steps are compiled, the run says that none will be, or time is up."""
    launch_training(run)
    followed, said, last = _Followed([]), "", time.monotonic()
    reader = JournalReader(run.journal_file)
    while time.monotonic() < end and run.is_live():
        followed.events += reader.read()
        now = _said(followed.events)
        if now != said:
            said = now
            _note(said.rpartition("Steps: ")[2])
        if MADE in said and followed.kernels_at_switch is None:
            followed.kernels_at_switch = _count(kernels)
        steps = _compiled(followed.events)
        if time.monotonic() - last > 10:
            last = time.monotonic()
            made = _count(kernels), _count(kernels / "making")
            _note(
                f"{len(_steps(followed.events))} steps, {made[0]} kernels, {made[1]} in the making"
            )
        if UNCOMPILED in said or len(steps) > wanted.steps:
            break
        time.sleep(0.05)
    if process := lock.holder(run.lock_file):
        os.kill(int(process), signal.SIGTERM)
    while run.is_live():
        time.sleep(0.05)
    followed.events += reader.read()
    followed.log = run.log_file.read_text(errors="replace")[-2000:]
    return followed


def _figures(found: _Followed, wanted: Wanted, begun: float, kernels: Path) -> dict[str, Any]:
    steps, compiled = _steps(found.events), _compiled(found.events)
    before = steps[: len(steps) - len(compiled)]
    switch = [each.time for each in found.events if MADE in _said([each])]
    samples = [each for each in found.events if isinstance(each, ev.MachineSampled)]
    used = [each.sample.gpu_memory_used for each in samples if each.sample.gpu_memory_used]
    ended = found.events[-1]
    tokens = wanted.rows * wanted.tokens
    return {
        "made": bool(compiled),
        "first_step": round(steps[0].time - begun, 2) if steps else None,
        "tokens_per_second_before": _rate(tokens, before[1:]),
        "slowest_step_before": _longest(before[1:]),
        "steps_before": len(before),
        "until_switch": round(switch[0] - begun, 1) if switch else None,
        "first_compiled_step": round(compiled[0].seconds, 2) if compiled else None,
        "tokens_per_second_after": _rate(tokens, compiled[1:]),
        "peak": ended.peak_memory if isinstance(ended, ev.RunFinished) else None,
        "device_peak": max(used, default=None),
        "kernels_at_switch": found.kernels_at_switch,
        "kernels_at_end": _count(kernels),
        "said": _said(found.events),
        "log": "" if compiled else found.log,
    }


def _steps(events: list[ev.AnyEvent]) -> list[ev.StepFinished]:
    return [each for each in events if isinstance(each, ev.StepFinished)]


def _compiled(events: list[ev.AnyEvent]) -> list[ev.StepFinished]:
    """The steps since the run has said that they are compiled."""
    for at, each in enumerate(events):
        if MADE in _said([each]) or "Steps: compiled" in _said([each]):
            return _steps(events[at:])
    return []


def _said(events: list[ev.AnyEvent]) -> str:
    """What a run has said of its steps."""
    chosen = [each for each in events if isinstance(each, ev.OperationsChosen)]
    return " ".join(s for each in chosen for s in each.reasons if s.startswith("Steps"))


def _rate(tokens: int, steps: list[ev.StepFinished]) -> float | None:
    if not steps:
        return None
    return round(tokens / statistics.median(each.seconds for each in steps), 1)


def _longest(steps: list[ev.StepFinished]) -> float | None:
    return round(max(each.seconds for each in steps), 3) if steps else None


def _count(folder: Path) -> int:
    return len(list(folder.glob("*.ptx")))


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
