"""Engines that find no kernels of recurrent layers, as on a new NVIDIA GPU, have them made."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import psutil
import pytest

from mlxft.compute.measuring import model_folder
from mlxft.engine.client import EngineClient
from mlxft.engine.launch import launch_training
from mlxft.engine.protocol import AnyCommand, Continue, Pause
from mlxft.runs import events as ev
from mlxft.runs import lock
from mlxft.runs.directory import RunDirectory
from support.architectures import RECURRENT
from support.new_gpu import write_new_gpu
from support.project import Project, events_of, eventually

MADE = "the kernels are made"


@pytest.fixture
def new_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines decide about steps as on an NVIDIA GPU, with an empty folder for its kernels."""
    for name, value in write_new_gpu(tmp_path / "gpu").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLXFT_STATE", str(tmp_path / "state"))


@pytest.fixture(scope="module")
def model(project: Project) -> str:
    """A setting: a model with recurrent layers."""
    folder = project.folder / "recurrent"
    model_folder.write(folder, {**RECURRENT["qwen3_5"], "max_position_embeddings": 512})
    return f"model={folder}"


def said(run: RunDirectory) -> str:
    """What the run has said of its operations."""
    return " ".join(
        reason
        for each in events_of(run)
        if isinstance(each, ev.OperationsChosen)
        for reason in each.reasons
    )


def steps(run: RunDirectory, after: int) -> list[int]:
    """The steps trained after so many events."""
    return [each.step for each in events_of(run)[after:] if isinstance(each, ev.StepFinished)]


def makers(run: RunDirectory) -> list[psutil.Process]:
    """The processes that make kernels beside this run."""
    engine, found = psutil.Process(int(lock.holder(run.lock_file) or 0)), []
    for each in engine.children():
        with contextlib.suppress(psutil.Error):
            found += [each] if "kernels" in each.cmdline() else []
    return found


async def send(run: RunDirectory, command: AnyCommand) -> None:
    client = await EngineClient.connect(run.socket_file)
    await client.send(command)
    await client.close()


def test_a_run_compiles_once_they_are_made_and_later_ones_at_once(
    project: Project, model: str, new_gpu: None
) -> None:
    run = project.start(model)
    eventually(lambda: makers(run))
    # On a busy machine a process of lowest priority would wait for the run.
    asyncio.run(send(run, Pause()))
    eventually(lambda: not makers(run))
    asyncio.run(send(run, Continue()))
    eventually(lambda: MADE in said(run))
    made = len(events_of(run))
    eventually(lambda: steps(run, made))
    assert not makers(run)
    project.end_engines()
    ended = len(events_of(run))
    launch_training(run)
    eventually(lambda: steps(run, ended))
    assert said(run).count(MADE) == 1
    assert "Steps: compiled; this machine has the kernels." in said(run)
    project.end_engines()


def test_the_process_ends_with_an_engine_that_is_killed(
    project: Project, model: str, new_gpu: None
) -> None:
    run = project.start(model)
    (maker,) = eventually(lambda: makers(run))
    engine = int(lock.holder(run.lock_file) or 0)
    # It can't end by itself.
    maker.suspend()
    os.kill(engine, signal.SIGKILL)
    maker.resume()
    eventually(lambda: not maker.is_running())
    assert MADE not in said(run)


def test_a_stop_ends_it(project: Project, model: str, new_gpu: None) -> None:
    run = project.start(model)
    (maker,) = eventually(lambda: makers(run))
    maker.suspend()
    os.kill(int(lock.holder(run.lock_file) or 0), signal.SIGTERM)
    eventually(lambda: not run.is_live())
    assert not maker.is_running()
    assert isinstance(events_of(run)[-1], ev.RunFinished)
