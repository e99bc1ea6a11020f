"""Runs that finish, stop, are killed, resumed or refused, each with a real engine."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from mlxft.engine.client import EngineClient
from mlxft.engine.launch import launch_training
from mlxft.engine.protocol import AnyCommand, SaveCheckpoint, SetLearningRate
from mlxft.errors import MlxftError, RunError
from mlxft.memory.calibration import remembered_peaks
from mlxft.recipe import replace, save
from mlxft.runs import events as ev
from mlxft.runs import lock
from mlxft.runs.directory import RunDirectory, create
from mlxft.runs.followed import read_run
from mlxft.storage.paths import notifications_file
from mlxft_tui.session import Session
from mlxft_tui.train.live_advice import after_ending
from support.project import Project, events_of, eventually


def ending(run: RunDirectory) -> ev.RunFinished | ev.RunFailed:
    """The run's last event, once its engine has ended."""
    eventually(lambda: not run.is_live())
    last = events_of(run)[-1]
    assert isinstance(last, ev.RunFinished | ev.RunFailed), last
    return last


def started(run: RunDirectory) -> ev.RunStarted:
    """The last session's start."""
    return eventually(lambda: [e for e in events_of(run) if isinstance(e, ev.RunStarted)])[-1]


def last_seq(run: RunDirectory) -> int:
    """The journal's last sequence number."""
    events = events_of(run)
    return events[-1].seq if events else 0


def wait_for_step(run: RunDirectory, after: int = 0) -> int:
    """A step trained after the given sequence number of the journal."""

    def steps() -> list[int]:
        return [e.step for e in events_of(run) if isinstance(e, ev.StepFinished) and e.seq > after]

    return eventually(steps)[-1]


def end(run: RunDirectory, number: signal.Signals = signal.SIGTERM) -> ev.RunFinished:
    """Stop the run's engine, so that the next test can train."""
    os.kill(started(run).pid, number)
    last = ending(run)
    assert isinstance(last, ev.RunFinished), last
    return last


def engine_in_foreground(run: RunDirectory) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mlxft.engine", "train", str(run.path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture(autouse=True)
def idle(project: Project) -> Iterator[None]:
    """No test leaves an engine running."""
    yield
    project.end_engines()


@pytest.fixture(scope="module")
def finished(project: Project) -> RunDirectory:
    """A finished run."""
    run = project.start("iters=6", "save_every=3", "val_batches=-1", "steps_per_report=2")
    ending(run)
    return run


@pytest.fixture
def fresh(project: Project, finished: RunDirectory) -> RunDirectory:
    """A run that was never started."""
    return create(finished.path.parent, project.recipe, "fresh")


class TestToTheEnd:
    def test_the_journal_has_every_event_in_order(self, finished: RunDirectory) -> None:
        last = ending(finished)
        assert isinstance(last, ev.RunFinished)
        expected = ("completed", 6, str(finished.path))
        assert (last.reason, last.step, last.adapter_path) == expected
        kinds = [type(each) for each in events_of(finished)]
        assert kinds[0] is ev.RunStarted
        assert kinds.index(ev.BackendReady) < kinds.index(ev.ModelLoaded)
        assert ev.MachineSampled in kinds
        assert kinds.count(ev.StepFinished) == 6
        assert [e.seq for e in events_of(finished)] == list(range(1, len(kinds) + 1))
        assert read_run(finished).state == "finished"

    def test_the_adapter_has_mlx_lms_layout(self, finished: RunDirectory) -> None:
        for path in (
            finished.adapter_file,
            finished.adapter_config_file,
            finished.numbered_adapter_file(3),
        ):
            assert path.is_file()

    def test_its_peak_is_remembered_with_the_estimate(self, finished: RunDirectory) -> None:
        (peak,) = [each for each in remembered_peaks() if each.run == str(finished.path)]
        (backend,) = [e for e in events_of(finished) if isinstance(e, ev.BackendReady)]
        (loaded,) = [e for e in events_of(finished) if isinstance(e, ev.ModelLoaded)]
        last = ending(finished)
        assert isinstance(last, ev.RunFinished)
        assert peak.measured == last.peak_memory
        # What the run expected is corrected by the peaks of the module's runs before it.
        assert peak.estimated == pytest.approx(loaded.expected_peak, rel=0.2)
        assert (peak.kind, peak.device) == (backend.kind, backend.device)
        assert peak.mlx == started(finished).versions["mlx"]

    @pytest.mark.skipif(
        importlib.util.find_spec("ngsolve_openblas") is None,
        reason="the cpu extra's OpenBLAS for x86-64 is not installed",
    )
    def test_it_was_trained_on_the_fast_blas(self, finished: RunDirectory) -> None:
        (backend,) = [e for e in events_of(finished) if isinstance(e, ev.BackendReady)]
        assert backend.kind != "cpu" or backend.blas == "OpenBLAS"

    def test_neither_socket_nor_process_remains(self, finished: RunDirectory) -> None:
        assert not finished.socket_file.exists()
        eventually(lambda: not psutil.pid_exists(started(finished).pid))

    def test_its_exit_is_clean(self, project: Project, fresh: RunDirectory) -> None:
        run = create(fresh.path.parent, replace(project.recipe, "iters", 2), "foreground")
        done = engine_in_foreground(run)
        assert (done.returncode, done.stderr) == (0, "")


class TestWatching:
    def test_a_service_and_the_users_command_get_the_end_while_another_service_hangs(
        self, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reported, released = tmp_path / "reported", tmp_path / "released"
        # Like the real one, it loses what it has when its process exits without `finish`.
        (tmp_path / "wandb.py").write_text(
            "import json, pathlib\n"
            "steps, summary, dir = [], {}, '.'\n"
            "def Settings(**settings): pass\n"
            "def teardown(): pass\n"
            "def init(**options):\n"
            "    import wandb\n"
            "    return wandb\n"
            "def log(figures, step): steps.append(step)\n"
            "def finish(exit_code):\n"
            f"    file = pathlib.Path({str(reported)!r})\n"
            "    file.write_text(json.dumps([steps, exit_code, summary['state']]))\n"
            "class Table: pass\n"
        )
        (tmp_path / "swanlab.py").write_text(
            "import pathlib, time\n"
            "class Text: pass\n"
            "def init(**options):\n"
            f"    while not pathlib.Path({str(released)!r}).exists(): time.sleep(0.05)\n"
            "    raise SystemExit\n"
        )
        # Other tests of this module have no notifications.
        monkeypatch.setenv("MLXFT_CONFIG", str(tmp_path / "config"))
        notifications_file().parent.mkdir()
        notifications_file().write_text(
            f"command = ['/bin/sh', '-c', 'cd {tmp_path}; cat > new; mv new notified.$MLXFT_EVENT']"
        )
        path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        monkeypatch.setenv("PYTHONPATH", path)
        try:
            run = project.start("report_to=wandb,swanlab", "iters=3", "steps_per_report=2")
            assert isinstance(ending(run), ev.RunFinished)
            assert eventually(lambda: reported.exists() and reported.read_text())
            assert json.loads(reported.read_text()) == [[2, 3], 0, "finished"]
            finished = tmp_path / "notified.finished"
            assert eventually(lambda: finished.exists() and finished.read_text())
            occasion = json.loads(finished.read_text())
            assert (occasion["run"], occasion["step"], occasion["iters"]) == (run.name, 3, 3)
            eventually((run.watching / "swanlab.json").exists)
        finally:
            released.touch()
        eventually(lambda: not lock.is_taken(run.watching / "swanlab.lock"))


class TestFailure:
    def test_is_one_sentence_at_the_end_of_the_journal(
        self, project: Project, tmp_path: Path
    ) -> None:
        run = project.start(f"model={tmp_path}")
        last = ending(run)
        assert isinstance(last, ev.RunFailed)
        assert "not an MLX model folder" in last.message
        assert last.log == str(run.log_file)
        assert read_run(run).state == "failed"
        assert "Traceback" not in run.log_file.read_text()

    def test_a_full_disk_is_reported(self, project: Project) -> None:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        # The engine inherits the limit, which acts like a full disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
        try:
            run = project.start("save_every=5")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        last = ending(run)
        assert isinstance(last, ev.RunFailed)
        assert "free disk space" in last.message
        assert not run.adapter_file.exists()

    def test_a_run_without_a_readable_recipe_does_not_start(self, fresh: RunDirectory) -> None:
        fresh.recipe_file.write_text("iters: many\n")
        with pytest.raises(MlxftError, match=r"recipe.yaml: iters is 'many'"):
            launch_training(fresh)

    def test_a_deleted_run_is_not_created_again(self, fresh: RunDirectory) -> None:
        shutil.rmtree(fresh.path)
        with pytest.raises(RunError, match="the run was deleted"):
            launch_training(fresh)
        assert not fresh.path.exists()

    def test_an_engine_that_cannot_listen_reports_why(
        self, fresh: RunDirectory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        deep = tmp_path / ("d" * 120)
        deep.mkdir(mode=0o700)
        monkeypatch.setenv("MLXFT_RUNTIME", str(deep))
        with pytest.raises(MlxftError, match="control socket can't be opened"):
            launch_training(fresh)


class TestStop:
    def test_a_signal_saves_and_a_resume_continues_from_there(self, project: Project) -> None:
        run = project.start()
        wait_for_step(run)
        last = end(run, signal.SIGTERM)
        assert last.reason == "stopped"
        assert (run.checkpoints / f"{last.step:07d}").is_dir()
        launch_training(run)
        assert eventually(lambda: started(run).start_step) == last.step
        assert wait_for_step(run, last_seq(run)) > last.step
        end(run, signal.SIGINT)

    def test_before_the_first_step_nothing_is_saved(self, project: Project) -> None:
        run = project.start()
        last = end(run)
        assert (last.reason, last.step) == ("stopped", 0)
        assert not run.checkpoints.exists()

    def test_a_hanging_download_is_abandoned(
        self, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=50) as silent:
            monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
            monkeypatch.setenv("HF_HOME", str(tmp_path))
            run = project.start("model=some/model")
            reached, _ = silent.accept()
            with reached:
                reached.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                silent.accept()
                last = end(run)
        assert (last.reason, last.step) == ("stopped", 0)


class TestKilled:
    def test_the_journal_is_readable_and_a_resume_continues_from_the_checkpoint(
        self, project: Project
    ) -> None:
        run = project.start("save_every=20")
        eventually(lambda: (run.checkpoints / "0000020" / "state.json").exists())
        os.kill(started(run).pid, signal.SIGKILL)
        eventually(lambda: not run.is_live())
        assert read_run(run).state == "lost"
        with run.journal_file.open("ab") as journal:
            journal.write(b'{"event":"step_finished","seq":99')
        before = events_of(run)
        launch_training(run)
        start = eventually(lambda: started(run).start_step)
        assert start % 20 == 0
        assert wait_for_step(run, before[-1].seq) > start
        assert read_run(run).state == "running"
        end(run)
        sequence = [each.seq for each in events_of(run)]
        assert sequence == sorted(set(sequence))

    def test_before_its_first_event_it_can_be_resumed_from_the_start(
        self, project: Project
    ) -> None:
        run = project.start()
        os.kill(int(run.lock_file.read_text()), signal.SIGKILL)
        eventually(lambda: not run.is_live())
        run.journal_file.write_bytes(b"")
        assert read_run(run).state == "lost"
        command = [sys.executable, "-m", "mlxft_tui.cli", "resume", run.name, "--detach"]
        done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        wait_for_step(run)
        assert started(run).start_step == 0
        end(run)

    def test_a_library_that_aborts_leaves_the_stack_in_the_log(self, project: Project) -> None:
        run = project.start()
        wait_for_step(run)
        os.kill(started(run).pid, signal.SIGILL)
        eventually(lambda: not run.is_live())
        assert "Illegal instruction" in run.log_file.read_text()


class TestDeleted:
    @pytest.mark.parametrize("what", ["", "lock", "events.jsonl"])
    def test_the_engine_of_a_deleted_run_ends(self, project: Project, what: str) -> None:
        run = project.start("save_every=5")
        wait_for_step(run)
        pid = started(run).pid
        if what:
            (run.path / what).unlink()
        else:
            # At once, since the engine may be saving right now.
            shutil.rmtree(run.path.rename(run.path.with_name("deleted")), ignore_errors=True)
        eventually(lambda: not psutil.pid_exists(pid), 20)
        assert run.path.exists() == bool(what)
        if what:
            assert "was deleted during training" in run.log_file.read_text()
            assert not (run.path / what).exists()
            assert not run.socket_file.exists()


class TestAnotherRecipe:
    def test_a_resume_with_it_is_refused_and_changes_nothing(self, project: Project) -> None:
        run = project.start("iters=4", "save_every=2")
        ending(run)
        files = (run.adapter_file, run.adapter_config_file, run.numbered_adapter_file(2))
        before = [path.read_bytes() for path in files]
        save(replace(run.recipe(), "lora_parameters.rank", 4), run.recipe_file)
        launch_training(run)
        last = ending(run)
        assert isinstance(last, ev.RunFailed)
        assert f"{run.path}: its checkpoints were made with another recipe" in last.message
        assert "(lora_parameters.rank 8 → 4); undo the change" in last.message
        assert [path.read_bytes() for path in files] == before


class TestDivergence:
    def test_a_diverged_run_resumes_with_the_advised_rate(self, project: Project) -> None:
        # Each update grows the weights: by 0.1% at first, then elevenfold.
        decay = "optimizer_config={adamw: {weight_decay: -1.0}}"
        run = project.start("learning_rate=1e-3", "optimizer=adamw", decay)
        wait_for_step(run)
        asyncio.run(send(run, SaveCheckpoint(), SetLearningRate(10.0)))
        last = ending(run)
        assert isinstance(last, ev.RunFailed)
        assert last.cause == "not_finite"
        advice = after_ending(read_run(run))
        assert advice is not None
        assert advice.change == ("learning_rate", 5e-4)

        after = last.seq
        session = Session(project.folder)
        session.change(run, dict([advice.change]))
        session.launch(run)
        wait_for_step(run, after)
        end(run)
        again = [e for e in events_of(run) if isinstance(e, ev.StepFinished) and e.seq > after]
        assert again[0].step == started(run).start_step + 1 > 1
        assert {each.learning_rate for each in again} == {5e-4}


async def send(run: RunDirectory, *commands: AnyCommand) -> None:
    client = await EngineClient.connect(run.socket_file)
    for command in commands:
        await client.send(command)
    await client.close()


class TestOneAtATime:
    def test_a_second_engine_is_refused_and_the_first_continues(
        self, project: Project, fresh: RunDirectory
    ) -> None:
        run = project.start()
        assert run.is_live()
        second = engine_in_foreground(run)
        assert second.returncode == 1
        assert "another engine is training this run" in second.stderr
        other = engine_in_foreground(fresh)
        assert other.returncode == 1
        process = started(run).pid
        assert f"{run.path} is training on this machine (process {process})" in other.stderr
        assert "Traceback" not in second.stderr + other.stderr
        assert read_run(fresh).state == "failed"
        with pytest.raises(RunError, match="is training on this machine"):
            launch_training(fresh)
        wait_for_step(run, last_seq(run))
        end(run)


class TestItsParent:
    def test_the_run_outlives_its_parent_and_its_terminal(self, fresh: RunDirectory) -> None:
        code = (
            "import sys, time; from pathlib import Path\n"
            "from mlxft.engine.launch import launch_training\n"
            "from mlxft.runs.directory import RunDirectory\n"
            f"launch_training(RunDirectory(Path({str(fresh.path)!r})))\n"
            "print('launched', flush=True); time.sleep(600)\n"
        )
        parent = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert parent.stdout is not None
        assert parent.stdout.readline() == "launched\n"
        os.kill(started(fresh).pid, signal.SIGHUP)
        os.killpg(parent.pid, signal.SIGKILL)
        parent.wait()
        parent.stdout.close()
        wait_for_step(fresh)
        wait_for_step(fresh, last_seq(fresh))
        end(fresh)
