"""A live run is found and alone on the machine, whatever became of the runtime folder."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from mlxft.engine import address
from mlxft.engine.launch import launch_training
from mlxft.engine.protocol import Continue, Pause, Ping
from mlxft.errors import EngineError, RunError
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory, create
from mlxft_tui.cli.following import send
from support.project import Project, events_of, eventually


@pytest.fixture(autouse=True)
def another_session(
    endless: RunDirectory, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The runtime folder of the engine's session is removed, and this one has another."""
    eventually(endless.address_file.exists)
    shutil.rmtree(os.environ["MLXFT_RUNTIME"], ignore_errors=True)
    runtime = tmp_path_factory.mktemp("r")
    runtime.chmod(0o700)
    monkeypatch.setenv("MLXFT_RUNTIME", str(runtime))


def has(run: RunDirectory, event: type[ev.AnyEvent]) -> bool:
    return any(isinstance(each, event) for each in events_of(run))


class TestRemovedRuntimeFolder:
    def test_commands_reach_the_run(self, endless: RunDirectory) -> None:
        eventually(lambda: has(endless, ev.StepFinished))
        send(endless, Pause())
        assert eventually(lambda: has(endless, ev.RunPaused))
        send(endless, Continue())
        assert eventually(lambda: has(endless, ev.RunContinued))

    def test_a_second_run_is_refused_in_every_project(
        self, endless: RunDirectory, project: Project, tmp_path: Path
    ) -> None:
        for root in (project.folder / "adapters", tmp_path / "other"):
            run = create(root, project.recipe, "second")
            with pytest.raises(RunError, match=rf"{endless.path} is training"):
                launch_training(run)

    def test_without_the_machines_lock_it_is_refused_in_the_same_project(
        self, endless: RunDirectory, project: Project
    ) -> None:
        run = create(project.folder / "adapters", project.recipe, "third")
        shutil.rmtree(os.environ["MLXFT_STATE"], ignore_errors=True)
        with pytest.raises(RunError, match=rf"{endless.path} is training .*{endless.process}"):
            launch_training(run)


class TestUnreachableEngine:
    async def test_the_message_says_how_to_stop_it(
        self, endless: RunDirectory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        process = endless.process
        assert process is not None
        os.kill(process, signal.SIGSTOP)
        try:
            endless.address_file.write_text("/nowhere/x.sock")
            with monkeypatch.context() as patch:
                patch.setattr(address, "PATIENCE_SECONDS", 0.5)
                with pytest.raises(EngineError, match=rf"kill -TERM {process} stops"):
                    await address.connect(endless)
        finally:
            os.kill(process, signal.SIGCONT)
        client = await address.connect(endless)
        await client.send(Ping())
        await client.close()


class TestKilledEngine:
    def test_nothing_that_it_leaves_blocks_a_resume(
        self, endless: RunDirectory, project: Project
    ) -> None:
        process = endless.process
        assert process is not None
        os.kill(process, signal.SIGKILL)
        eventually(lambda: not endless.is_live())
        assert endless.address_file.exists()
        with pytest.raises(EngineError, match="no engine is listening"):
            send(endless, Ping())
        launch_training(endless)
        send(endless, Ping())
        assert endless.process != process
