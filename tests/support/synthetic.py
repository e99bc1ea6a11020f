"""Runs made of events, and an application that shows one place of the viewer."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from textual.app import App
from textual.binding import BindingType
from textual.message import Message

import mlxft_tui
from mlxft import recipe as recipes
from mlxft.engine.protocol import AnyCommand
from mlxft.recipe import Recipe
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory
from mlxft.runs.events import AnyEvent
from mlxft.runs.followed import FollowedRun
from mlxft.runs.view import RunView, State, fold
from mlxft.telemetry.sample import Sample
from mlxft_tui.frame.keys import APP_BINDINGS
from mlxft_tui.frame.messages import (
    CommandIssued,
    RecipeChanged,
    ResumeRequested,
    TrainingRequested,
)
from mlxft_tui.frame.screen import AppScreen
from mlxft_tui.text.theme import DARK

START = 1_760_000_000.0
GB = 10**9
RECIPE = recipes.from_mapping(
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


def preparation(recipe: Recipe = RECIPE, gpu: bool = False) -> list[AnyEvent]:
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


def training(steps: int, recipe: Recipe = RECIPE, gpu: bool = False) -> Iterator[AnyEvent]:
    """So many steps of a falling loss, with reports, validations, checkpoints and samples."""
    chance = random.Random(7)
    best = math.inf
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


def finished(recipe: Recipe = RECIPE) -> ev.RunFinished:
    """The last event of a run that went well."""
    return ev.RunFinished(
        reason="completed",
        step=recipe.iters,
        first_loss=2.512,
        final_loss=0.311,
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


def followed(folder: Path, view: RunView, state: State, recipe: Recipe = RECIPE) -> FollowedRun:
    """A run as the application hands it to a place."""
    directory = RunDirectory(folder / "adapters" / "SmolLM2-135M-Instruct-lora-1")
    return FollowedRun(directory, view, state, recipe)


class PlaceApp(App[None]):
    """One place in the application's frame and colours; records what it requests."""

    CSS_PATH = Path(mlxft_tui.__file__).parent / "app" / "app.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [*APP_BINDINGS]
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, place: AppScreen, **state: object) -> None:
        super().__init__()
        self.register_theme(DARK)
        self.theme = DARK.name
        self.animation_level = "none"
        self.place = place
        self.asked: list[AnyCommand | Message] = []
        self.gone: list[str] = []
        self.recipes: list[Recipe] = []
        """What the place has made of the recipe."""
        self.notices: list[str] = []
        """The notifications so far."""
        self.state = state

    def notify(self, message: str, **options: Any) -> None:
        self.notices.append(message)
        super().notify(message, **options)

    async def on_mount(self) -> None:
        await self.push_screen(self.place)
        self.publish(**self.state)

    def publish(self, **state: object) -> None:
        """Push state down to the place, as the application does."""
        for name, value in state.items():
            setattr(self.place, name, value)

    def action_go(self, mode: str) -> None:
        """Remember where one wanted to go."""
        self.gone.append(mode)

    def on_command_issued(self, message: CommandIssued) -> None:
        self.asked.append(message.command)

    def on_recipe_changed(self, message: RecipeChanged) -> None:
        self.recipes.append(message.recipe)

    def on_training_requested(self, message: TrainingRequested) -> None:
        self.asked.append(message)

    def on_resume_requested(self, message: ResumeRequested) -> None:
        self.asked.append(message)


def screen_text(app: App[None]) -> str:
    """What is on the screen."""
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips())
