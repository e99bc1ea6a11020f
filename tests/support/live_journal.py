"""A journal that grows as an engine's does, with figures that jitter like a real machine's."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator

from mlxft import recipe as recipes
from mlxft.recipe import Recipe
from mlxft.runs import events as ev
from mlxft.runs.events import AnyEvent
from mlxft.runs.journal import JournalWriter
from mlxft.telemetry.sample import Sample

STEPS_A_SECOND = 4
GB = 10**9
RECIPE = Recipe(data="data", iters=4000, learning_rate=2e-4, steps_per_report=2, steps_per_eval=100)


class Engine:
    """The events of a training and of its machine, with chance of a fixed seed."""

    def __init__(self, iters: int = RECIPE.iters) -> None:
        self._iters = iters
        self._chance = random.Random(5)
        self._best = math.inf
        self.step = 0

    def start(self) -> Iterator[AnyEvent]:
        """All that comes before the first step."""
        recipe = recipes.to_mapping(RECIPE)
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
        if step % RECIPE.steps_per_report == 0:
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
        if step % RECIPE.steps_per_eval == 0:
            loss = fall * 1.07
            best, self._best = loss < self._best, min(loss, self._best)
            yield ev.ValidationFinished(step=step, loss=loss, tokens=2200, seconds=3.4, best=best)
        if step % RECIPE.save_every == 0:
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


def write_live(journal: JournalWriter, engine: Engine, seconds: float, trains: bool) -> None:
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
