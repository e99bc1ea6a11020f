"""Journals as an engine writes them: scripted, folded into views, or live."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from mlxft import recipe as recipes
from mlxft.recipe import Recipe
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory, create
from mlxft.runs.events import AnyEvent
from mlxft.runs.followed import FollowedRun
from mlxft.runs.journal import JournalWriter
from mlxft.runs.view import RunView, State, fold
from mlxft.telemetry.sample import Sample

START = 1_760_000_000.0


GB = 10**9


RUN_RECIPE = recipes.from_mapping(
    {
        "model": "SmolLM2-135M-Instruct",
        "data": "data",
        "iters": 1000,
        "learning_rate": 2e-4,
        "num_layers": 16,
        "steps_per_eval": 100,
        "save_every": 200,
    }
)


def sample(time: float = START, gpu: bool = False) -> Sample:
    """A busy machine, with a GPU or without."""
    plain = Sample(
        time=time,
        cpu_share=0.93,
        memory_used=12_300_000_000,
        memory_total=36 * GB,
        memory_pressure="normal",
        swap_used=0,
        disk_free=212 * GB,
    )
    if not gpu:
        return plain
    return msgspec.structs.replace(
        plain,
        cpu_share=0.21,
        gpu_name="Apple M3 Pro",
        gpu_share=0.91,
        gpu_power=38.2,
        gpu_frequency_mhz=1398,
        gpu_temperature=61.0,
        memory_wired=3_100_000_000,
        memory_compressed=800_000_000,
        thermal_level=0,
        battery_share=0.83,
        on_battery=True,
    )


def preparation(recipe: Recipe = RUN_RECIPE, gpu: bool = False) -> list[AnyEvent]:
    """Every event before the first step."""
    return [
        ev.RunStarted(
            run="SmolLM2-135M-Instruct-lora-1",
            pid=4711,
            host="here",
            recipe=recipes.to_mapping(recipe),
            iters=recipe.iters,
        ),
        ev.BackendReady(device="Apple M3 Pro", kind="metal", memory_limit=28 * GB)
        if gpu
        else ev.BackendReady(device="x86_64", kind="cpu", blas="OpenBLAS", gflops=182.0),
        ev.ModelLoaded(
            model=recipe.model,
            model_type="llama",
            total_parameters=134_515_008,
            trainable_parameters=2_400_000,
            quantization="none",
            dtype="float32",
            seconds=2.1,
        ),
        ev.DataPrepared(
            train_records=300,
            valid_records=50,
            tokens=41_200,
            trained_tokens=12_800,
            longest=231,
            truncated=0,
            untrainable=0,
            steps_per_epoch=75,
            padding_share=0.08,
        ),
    ]


def training(steps: int, recipe: Recipe = RUN_RECIPE, gpu: bool = False) -> Iterator[AnyEvent]:
    """So many steps of a falling loss, with reports, validations, checkpoints and samples."""
    chance = random.Random(7)
    best = math.inf
    yield ev.ValidationFinished(step=0, loss=2.614, tokens=2200, seconds=3.4, best=False)
    for step in range(1, steps + 1):
        fall = 0.3 + 2.2 * math.exp(-step / (recipe.iters * 0.18))
        loss = fall * (1 + chance.gauss(0, 0.09))
        rate = recipe.learning_rate * min(1.0, step / 50) * (1 - 0.9 * step / recipe.iters)
        yield ev.StepFinished(
            step=step,
            loss=loss,
            tokens=chance.randint(350, 650),
            seconds=0.4,
            learning_rate=rate,
            gradient_norm=0.4 + loss / 2,
        )
        if step % 5 == 0:
            yield ev.MachineSampled(
                sample=sample(gpu=gpu),
                active_memory=int(1.21 * GB),
                peak_memory=int(2.31 * GB + step * 1e5),
                cache_memory=int(0.42 * GB),
            )
        if step % recipe.steps_per_report == 0:
            yield ev.TrainReported(
                step=step,
                loss=fall,
                learning_rate=rate,
                steps_per_second=2.5,
                tokens_per_second=1240.0,
                trained_tokens=step * 500,
                peak_memory=int(2.31 * GB + step * 1e5),
                active_memory=int(1.21 * GB),
                cache_memory=int(0.42 * GB),
            )
        if step % recipe.steps_per_eval == 0:
            value = fall * 1.07 + (0.05 if step > 0.7 * recipe.iters else 0)
            yield ev.ValidationFinished(
                step=step, loss=value, tokens=2200, seconds=3.4, best=value < best
            )
            best = min(best, value)
        if step % recipe.save_every == 0:
            yield ev.CheckpointSaved(step=step, path=f"checkpoints/{step}")


def finished(recipe: Recipe = RUN_RECIPE) -> ev.RunFinished:
    """The last event of a run that went well."""
    return ev.RunFinished(
        reason="completed",
        step=recipe.iters,
        first_loss=2.512,
        final_loss=0.309,
        baseline_loss=2.614,
        best_validation_loss=0.421,
        best_validation_step=700,
        tokens_per_second=1238.0,
        trained_tokens=500_000,
        peak_memory=int(2.41 * GB),
        seconds=412.0,
        adapter_path="adapters/SmolLM2-135M-Instruct-lora-1",
    )


def stamped(events: Iterable[AnyEvent]) -> list[AnyEvent]:
    """The events numbered and timed as a journal does, a step each 0.4 s."""
    time = START
    written = []
    for number, event in enumerate(events, 1):
        time += event.seconds if isinstance(event, ev.StepFinished) else 0.01
        written.append(msgspec.structs.replace(event, seq=number, time=time))
    return written


def view_of(events: Iterable[AnyEvent]) -> RunView:
    """The fold of the events."""
    return fold(RunView(), stamped(events))


def followed(folder: Path, view: RunView, state: State, recipe: Recipe = RUN_RECIPE) -> FollowedRun:
    """A run as the application hands it to a place."""
    directory = RunDirectory(folder / "adapters" / "SmolLM2-135M-Instruct-lora-1")
    return FollowedRun(directory, view, state, recipe)


RUN_START = 1_700_000_000.0
"""The time of the first event of every scripted run."""


def write_run(
    root: Path, recipe: Recipe, events: Iterable[AnyEvent], name: str = "smollm2-lora"
) -> RunDirectory:
    """A run directory with these events, a second apart."""
    directory = create(root, recipe, name)
    ticks = itertools.count(RUN_START)
    journal = JournalWriter(directory.journal_file, clock=lambda: next(ticks))
    for event in events:
        journal.append(event)
    journal.close()
    return directory


def trained_run(recipe: Recipe, steps: int, start: int = 0) -> list[AnyEvent]:
    """A session that has trained so many steps, with a loss that falls smoothly."""
    losses = [0.8 + 2.0 / step for step in range(start + 1, start + steps + 1)]
    events: list[AnyEvent] = [
        ev.RunStarted(
            run="smollm2-lora-1",
            pid=4242,
            host="mac",
            recipe=recipes.to_mapping(recipe),
            iters=recipe.iters,
            start_step=start,
        )
    ]
    if start == 0:
        events.append(ev.ValidationFinished(step=0, loss=2.5, tokens=900, seconds=2.0, best=False))
    for step, loss in enumerate(losses, start + 1):
        events.append(
            ev.StepFinished(
                step=step,
                loss=loss,
                tokens=400,
                seconds=0.5,
                learning_rate=recipe.learning_rate,
            )
        )
        if step % 10 == 0:
            events.append(reported(step, losses[step - start - 10 : step - start], recipe))
        if step % 20 == 0:
            events.append(
                ev.ValidationFinished(
                    step=step, loss=0.9 + 2.0 / step, tokens=900, seconds=2.0, best=True
                )
            )
            events.append(ev.CheckpointSaved(step=step, path=f"checkpoints/{step}"))
    return events


def reported(step: int, losses: list[float], recipe: Recipe) -> AnyEvent:
    """The report of these steps."""
    return ev.TrainReported(
        step=step,
        loss=math.fsum(losses) / len(losses),
        learning_rate=recipe.learning_rate,
        steps_per_second=2.0,
        tokens_per_second=800.0,
        trained_tokens=400 * step,
        peak_memory=2_100_000_000,
        active_memory=1_200_000_000,
        cache_memory=100_000_000,
    )


def backend() -> AnyEvent:
    """MLX on a Mac."""
    return ev.BackendReady(device="Apple M3 Pro", kind="metal", memory_limit=14_000_000_000)


def data_prepared(longest: int) -> AnyEvent:
    """The sample records as tokens, the longest of that length."""
    return ev.DataPrepared(
        train_records=300,
        valid_records=40,
        tokens=9000,
        trained_tokens=3000,
        longest=longest,
        truncated=0,
        untrainable=0,
        steps_per_epoch=75,
        padding_share=0.1,
    )


def ended(step: int, reason: str = "completed") -> AnyEvent:
    """The end of a run in order."""
    return ev.RunFinished(
        reason=reason,  # type: ignore[arg-type]
        step=step,
        first_loss=2.8,
        final_loss=0.9,
        best_validation_loss=1.0,
        best_validation_step=step,
        tokens_per_second=812.0,
        trained_tokens=400 * step,
        peak_memory=2_100_000_000,
        seconds=30.0,
        adapter_path="adapters",
    )


STEPS_A_SECOND = 4


LIVE_RECIPE = Recipe(
    data="data", iters=4000, learning_rate=2e-4, steps_per_report=2, steps_per_eval=100
)


class LiveEngine:
    """The events of a training and of its machine, with chance of a fixed seed."""

    def __init__(self, iters: int = LIVE_RECIPE.iters) -> None:
        self._iters = iters
        self._chance = random.Random(5)
        self._best = math.inf
        self.step = 0

    def start(self) -> Iterator[AnyEvent]:
        """All that comes before the first step."""
        recipe = recipes.to_mapping(LIVE_RECIPE)
        yield ev.RunStarted(run="link-1", pid=1, host="mac", recipe=recipe, iters=self._iters)
        yield ev.BackendReady(device="Apple M3 Pro", kind="metal", memory_limit=28 * GB)

    def next_step(self) -> Iterator[AnyEvent]:
        """One step, and the report, validation or checkpoint that follows it."""
        self.step += 1
        step, chance = self.step, self._chance
        fall = 0.3 + 2.2 * math.exp(-step / 700)
        peak = int(2.3 * GB + step * 1e5)
        rate = 2e-4 * min(1.0, step / 100) * (1 - 0.9 * step / self._iters)
        yield ev.StepFinished(
            step=step,
            loss=fall * (1 + chance.gauss(0, 0.09)),
            tokens=chance.randint(350, 650),
            seconds=1 / STEPS_A_SECOND * (1 + chance.gauss(0, 0.03)),
            learning_rate=rate,
            gradient_norm=abs(chance.gauss(0.8, 0.2)),
        )
        if step % LIVE_RECIPE.steps_per_report == 0:
            yield ev.TrainReported(
                step=step,
                loss=fall * (1 + chance.gauss(0, 0.05)),
                learning_rate=rate,
                steps_per_second=STEPS_A_SECOND,
                tokens_per_second=2000 * (1 + chance.gauss(0, 0.05)),
                trained_tokens=step * 500,
                peak_memory=peak,
                active_memory=int(1.2 * GB),
                cache_memory=int(0.4 * GB),
            )
        if step % LIVE_RECIPE.steps_per_eval == 0:
            loss = fall * 1.07
            best, self._best = loss < self._best, min(loss, self._best)
            yield ev.ValidationFinished(step=step, loss=loss, tokens=2200, seconds=3.4, best=best)
        if step % LIVE_RECIPE.save_every == 0:
            yield ev.CheckpointSaved(step=step, path=f"checkpoints/{step}")

    def machine(self, busy: bool) -> AnyEvent:
        """A sample of the machine, busy or idle."""
        chance = self._chance
        sample = Sample(
            time=time.time(),
            cpu_share=abs(chance.gauss(0.22, 0.03) if busy else chance.gauss(0.02, 0.01)),
            memory_used=int((14.2 if busy else 13.9) * GB + chance.gauss(0, 3e7)),
            memory_total=36 * GB,
            memory_pressure="normal",
            swap_used=0,
            gpu_name="Apple M3 Pro",
            gpu_share=min(1.0, chance.gauss(0.94, 0.02)) if busy else 0.0,
            gpu_power=chance.gauss(38, 1.5) if busy else abs(chance.gauss(0.1, 0.05)),
            gpu_frequency_mhz=chance.gauss(1380, 15) if busy else 338,
            gpu_temperature=chance.gauss(71, 0.6) if busy else chance.gauss(45, 0.2),
            thermal_level=0,
        )
        return ev.MachineSampled(
            sample=sample,
            active_memory=int(1.2 * GB),
            peak_memory=int(2.3 * GB + self.step * 1e5),
            cache_memory=int(0.4 * GB),
        )


def write_live(journal: JournalWriter, engine: LiveEngine, seconds: float, trains: bool) -> None:
    """Append what an engine would, at its pace."""
    end, ticks = time.monotonic() + seconds, 0
    while (now := time.monotonic()) < end:
        if trains:
            for event in engine.next_step():
                journal.append(event)
        if ticks % (2 * STEPS_A_SECOND) == 0:
            journal.append(engine.machine(trains))
        ticks += 1
        time.sleep(max(0.0, now + 1 / STEPS_A_SECOND - time.monotonic()))
