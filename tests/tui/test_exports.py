"""Exports in the app: the question, the progress, and what was measured."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlxft.engine.protocol import (
    AnyCommand,
    AnyReply,
    CancelChat,
    Export,
    ExportFinished,
    Progressed,
)
from mlxft.errors import EngineError
from mlxft.export.types import Exported, Proof
from mlxft.runs.directory import RunDirectory
from mlxft.runs.events import ProgressMade
from mlxft_tui.app import MlxftApp
from support.journal import ended, trained_run, write_run
from support.session import (
    RECIPE,
    SIZES,
    Opened,
    ScriptedService,
    screen_text,
    session,
    settled,
    words,
)

PROOF = Proof(
    source="validation",
    records=16,
    positions=256,
    largest_difference=2.1e-5,
    mean_difference=3e-6,
    base_loss=2.27,
    loss=0.031,
    exported_loss=0.031,
    answers=8,
    same_answers=8,
)


class Exporter(ScriptedService):
    """Exports once it is allowed to finish."""

    def __init__(self) -> None:
        super().__init__()
        self.finish = asyncio.Event()
        self.cancelled = False

    async def stream(self, command: AnyCommand) -> AsyncIterator[AnyReply]:
        if not isinstance(command, Export):
            async for reply in super().stream(command):
                yield reply
            return
        self.commands.append(command)
        yield Progressed(id=1, progress=ProgressMade(stage="measuring", done=9, total=72))
        await self.finish.wait()
        if self.cancelled:
            raise EngineError("The export was cancelled; nothing is left of it.")
        files = (("model.safetensors", 269_000_000), ("README.md", 2_000))
        yield ExportFinished(
            id=1,
            exported=Exported(
                form=command.form, folder=command.out, files=files, proof=PROOF, family="llama"
            ),
        )

    async def send(self, command: AnyCommand) -> None:
        """As a service does that was asked to cancel."""
        assert isinstance(command, CancelChat)
        self.cancelled = True
        self.finish.set()


@pytest.fixture
def run(folder: Path) -> RunDirectory:
    """A finished run with an adapter of its last and of an earlier step."""
    run = write_run(folder / "adapters", RECIPE, [*trained_run(RECIPE, 225), ended(225)])
    arrays = {
        "model.layers.0.self_attn.q_proj.lora_a": mx.zeros((64, 8)),
        "model.layers.0.self_attn.q_proj.lora_b": mx.zeros((8, 64)),
    }
    for name in (run.adapter_file, run.numbered_adapter_file(100), run.numbered_adapter_file(225)):
        mx.save_safetensors(str(name), arrays)
    run.adapter_config_file.write_text(
        '{"fine_tune_type": "lora", "num_layers": 1, "lora_parameters": {"rank": 8, "scale": 20.0}}'
    )
    return run


@pytest.fixture(autouse=True)
def _a_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlxft_tui.export.dialog.free_bytes", lambda _: 212 * 10**9)
    monkeypatch.setattr("mlxft_tui.session.ModelService.close", _closed)


async def _closed(_: object) -> None:
    """There is no process to end."""


def exporter(app: MlxftApp) -> Exporter:
    """The app's scripted service that exports."""
    found = session(app).scripted
    assert isinstance(found, Exporter)
    return found


async def asked(pilot: Any) -> None:
    """The question about the run on the Runs screen."""
    session(pilot.app).scripted = Exporter()
    await settled(pilot)
    await pilot.press("5")
    await settled(pilot)
    await pilot.press("e")
    await settled(pilot, "export-offer")
    await pilot.pause()


async def until(pilot: Any, text: str) -> None:
    async with asyncio.timeout(20):
        while text not in screen_text(pilot.app):
            await pilot.pause()


class TestLooks:
    @pytest.mark.parametrize("size", SIZES)
    def test_the_question(
        self, opened: Opened, run: RunDirectory, snap_compare: Any, size: tuple[int, int]
    ) -> None:
        async def before(pilot: Any) -> None:
            await asked(pilot)
            await pilot.press("down", "down", "right")

        assert snap_compare(opened(), terminal_size=size, run_before=before)

    @pytest.mark.parametrize("size", SIZES)
    def test_what_was_measured(
        self, opened: Opened, run: RunDirectory, snap_compare: Any, size: tuple[int, int]
    ) -> None:
        async def before(pilot: Any) -> None:
            await asked(pilot)
            exporter(pilot.app).finish.set()
            await pilot.press("enter")
            await until(pilot, "greedy answers")

        assert snap_compare(opened(), terminal_size=size, run_before=before)


class TestExport:
    async def test_what_is_shown_is_exported_on_any_screen(
        self, opened: Opened, run: RunDirectory
    ) -> None:
        app = opened()
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            await asked(pilot)
            await pilot.press("right", "down", "right", "down", "right", "right", "right")
            await pilot.press("tab", "ctrl+u", *"mine", "enter")
            await until(pilot, "comparing: 12%")
            await pilot.press("escape", "1")
            exporter(app).finish.set()
            await until(pilot, "has finished; e on Runs shows it")
            (command,) = (each for each in exporter(app).commands if isinstance(each, Export))
            assert (command.form, command.quantize.name) == ("gguf", "q8_0")
            assert Path(command.adapter) == run.numbered_adapter_file(100).resolve()
            assert Path(command.out) == app.session.folder / "mine"
            await pilot.press("3", "e")
            await until(pilot, "8 of 8 the same")
            assert "llama-cli -m mine.gguf" in screen_text(app)

    async def test_it_can_be_cancelled(self, opened: Opened, run: RunDirectory) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await asked(pilot)
            await pilot.press("enter")
            await until(pilot, "comparing")
            await pilot.press("escape", "q")
            assert "The export of" in words(app)
            assert "is running; quitting" in words(app)
            await pilot.press("n", "e", "c")
            await until(pilot, "nothing is left of it")

    async def test_a_folder_with_files_is_not_accepted(
        self, opened: Opened, run: RunDirectory
    ) -> None:
        app = opened()
        (app.session.folder / f"{run.name}-mlx").mkdir()
        (app.session.folder / f"{run.name}-mlx" / "mine").touch()
        async with app.run_test(size=(120, 40)) as pilot:
            await asked(pilot)
            await pilot.press("enter")
            assert "choose another folder" in words(app)
            assert not any(isinstance(each, Export) for each in exporter(app).commands)

    async def test_a_form_that_can_not_hold_the_adapter_is_not_accepted(
        self, opened: Opened, run: RunDirectory
    ) -> None:
        layer = "model.layers.0.mlp.switch_mlp.up_proj"
        experts = {f"{layer}.lora_a": mx.zeros((4, 8, 64)), f"{layer}.lora_b": mx.zeros((4, 64, 8))}
        mx.save_safetensors(str(run.adapter_file), experts)
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            await asked(pilot)
            await pilot.press("right", "right")
            assert "transformers keeps a layer's experts in one array" in words(app)
            assert "train without it in lora_parameters.keys" in words(app)
            await pilot.press("enter")
            assert not any(isinstance(each, Export) for each in exporter(app).commands)
            await pilot.press("left")
            assert "experts in one array" not in words(app)
