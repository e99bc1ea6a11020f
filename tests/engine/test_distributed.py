"""Runs of several processes: they train what one does, and end together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from mlxft import recipe as recipes
from mlxft.compute.measuring import model_folder
from mlxft.engine.launch import launch_training
from mlxft.recipe.mlx_lm_command import mlx_lm_command
from mlxft.runs import events as ev
from mlxft.runs import lock
from mlxft.runs.directory import RunDirectory
from mlxft_tui.cli.main import main
from support.network import OTHER, ssh_in_place_of, two_machines
from support.project import Project, events_of, eventually
from support.ssh_server import ssh_server
from support.training import wait_for_first_step

IMPATIENT = Path(__file__).parents[1] / "support" / "impatient_site"

SETTINGS = (
    "iters=6",
    "batch_size=3",
    "val_batches=2",
    "steps_per_eval=3",
    "steps_per_report=3",
    "save_every=2",
    "lora_parameters.dropout=0.2",
    "optimizer=sgd",
    "learning_rate=0.1",
    "lr_schedule.name=cosine_decay",
    "lr_schedule.arguments=[0.1, 6]",
)


def _processes_of(run: RunDirectory) -> list[psutil.Process]:
    """The run's processes other than rank 0."""
    children = psutil.Process(_rank_0(run)).children()
    return [each for each in children if "rank" in each.cmdline()]


def _rank_0(run: RunDirectory) -> int:
    holder = lock.holder(run.lock_file)
    assert holder is not None
    return int(holder)


def _ended(run: RunDirectory) -> ev.AnyEvent:
    eventually(lambda: not run.is_live(), 300)
    return events_of(run)[-1]


def _all_gone(processes: Iterable[psutil.Process]) -> bool:
    return all(map(_is_gone, processes))


def _is_gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _losses(run: RunDirectory) -> list[float]:
    kinds = (ev.StepFinished, ev.ValidationFinished)
    return [each.loss for each in events_of(run) if isinstance(each, kinds)]


def _difference(one: RunDirectory, other: RunDirectory) -> float:
    """The largest difference of two adapters' weights."""
    left, right = load_file(one.adapter_file), load_file(other.adapter_file)
    assert left.keys() == right.keys()
    return max(float(np.abs(left[name] - right[name]).max()) for name in left)


@pytest.fixture(scope="module")
def pairs(project: Project) -> Path:
    """A folder of pairs of answers."""
    folder = project.folder / "pairs"
    folder.mkdir()
    for split, count in (("train", 12), ("valid", 4)):
        records = (
            {"prompt": f"Lamp {n}", "chosen": f"Lamp {n} is on.", "rejected": "No. " * (1 + n % 3)}
            for n in range(count)
        )
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
    return folder


class TestDistributedRuns:
    def test_they_equal_one_process_also_when_resumed_with_other_numbers(
        self, project: Project, pairs: Path
    ) -> None:
        """Steps of 2, 1 and 4 processes; with 4, one has no row of a batch of 3."""
        settings = (*SETTINGS, "loss=dpo", f"data={pairs}")
        changing = project.create(*settings, "hosts=2")
        for hosts, until in ((2, 2), (1, 4), (4, None)):
            recipe = recipes.apply_settings(changing.recipe(), [f"hosts={hosts}"])
            recipes.save(recipe, changing.recipe_file)
            launch_training(changing, until=until)
            ending = _ended(changing)
            assert isinstance(ending, ev.RunFinished), ending
        # Afterwards, so that the reference was found by several processes.
        alone = project.start(*settings)
        assert isinstance(_ended(alone), ev.RunFinished)
        assert _losses(changing) == pytest.approx(_losses(alone), abs=1e-5)
        assert _difference(alone, changing) < 1e-5
        said = [each.message for each in events_of(changing) if isinstance(each, ev.Warned)]
        assert any(
            "2 processes trained until this step, 1 process from now on" in each for each in said
        )
        last = [each for each in events_of(changing) if isinstance(each, ev.RanksReported)][-1]
        assert [each.rank for each in last.ranks] == [0, 1, 2, 3]
        assert last.ranks[0].tokens_per_second > 0
        assert last.ranks[3].tokens_per_second == 0


LLAMA = {
    "model_type": "llama",
    "rms_norm_eps": 1e-5,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
    "max_position_embeddings": 8192,
}


class TestMemory:
    def test_of_each_rank_is_the_expected_peak(self, project: Project, tmp_path: Path) -> None:
        """Of short rows, so that messages of gradients count for most."""
        model_folder.write(tmp_path / "model", LLAMA)
        settings = ("fine_tune_type=full", "num_layers=-1", "batch_size=4", "hosts=2")
        run = project.start(
            f"model={tmp_path / 'model'}", *settings, "iters=3", "steps_per_report=3"
        )
        assert isinstance(_ended(run), ev.RunFinished)
        (loaded,) = (each for each in events_of(run) if isinstance(each, ev.ModelLoaded))
        (reported,) = (each for each in events_of(run) if isinstance(each, ev.RanksReported))
        expected = loaded.expected_peak
        assert expected is not None
        for rank in reported.ranks:
            assert rank.peak_memory == pytest.approx(expected, rel=0.06), rank.rank


class TestOtherMachines:
    def test_a_slow_link_changes_no_loss_and_one_that_is_cut_ends_the_run(
        self, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PYTHONPATH", f"{IMPATIENT}:{os.environ.get('PYTHONPATH', '')}")
        with two_machines(delay=0.02) as machines:
            if machines is None:
                pytest.skip("network namespaces can't be made here")
            alone = project.create(*SETTINGS)
            launch_training(alone, until=6)
            assert isinstance(_ended(alone), ev.RunFinished)
            with ssh_in_place_of(machines, tmp_path), machines.on_first():
                run = project.start(*SETTINGS, "iters=100000", f"hosts={machines.hosts}")
            eventually(lambda: len(_losses(run)) > len(_losses(alone)), 300)
            others = _processes_of(run)
            machines.cut()
            ending = _ended(run)
        (link,) = (each.link for each in events_of(run) if isinstance(each, ev.RanksJoined))
        assert link.latency >= 0.02
        assert _losses(run)[: len(_losses(alone))] == pytest.approx(_losses(alone), abs=1e-5)
        assert isinstance(ending, ev.RunFailed)
        assert "the connection between the ranks is cut" in ending.message
        assert (run.checkpoints / f"{ending.step:07d}").is_dir()
        assert _all_gone(others)

    def test_a_rank_is_reached_by_real_ssh_and_a_killed_one_is_named(
        self, project: Project, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with ssh_server(tmp_path) as server:
            if server is None:
                pytest.skip("no SSH server can be started here")
            run = project.start("batch_size=2", f"hosts=localhost, {OTHER}@127.0.0.1")
            assert main(["check-hosts", str(run.recipe_file), "--dir", str(project.folder)]) == 1
            said = capfd.readouterr().out
            assert "answers without a password" in said
            assert "the same weights" in said
            assert "127.0.0.1, which other machines can't reach" in said
            wait_for_first_step(run)
            (there,) = (e for e in server.children(recursive=True) if "rank" in e.cmdline())
            there.send_signal(signal.SIGKILL)
            ending = _ended(run)
        assert isinstance(ending, ev.RunFailed)
        assert f"rank 1 ({OTHER}) was killed there, or its SSH connection" in ending.message
        assert _all_gone([there])


RANK_OF_MLX_LM = """#!{python}
import sys
from pathlib import Path
import mlx.core as mx

group = mx.distributed.init(strict=True, backend="ring")
ranks = int(mx.distributed.all_sum(mx.array(1)).item())
config = Path(sys.argv[sys.argv.index("--config") + 1]).read_text()
Path(f"rank-{{group.rank()}}").write_text(f"of {{ranks}}: {{config}}")
"""


class TestCopiedCommand:
    def test_starts_every_rank_with_its_config_also_on_another_machine(
        self, project: Project, tmp_path: Path
    ) -> None:
        """By a shell and MLX's own launcher."""
        program = tmp_path / "bin" / "mlx_lm.lora"
        program.parent.mkdir()
        program.write_text(RANK_OF_MLX_LM.format(python=sys.executable))
        program.chmod(0o700)
        path = [str(program.parent), str(Path(sys.executable).parent)]
        (tmp_path / "ssh").mkdir()
        with ssh_server(tmp_path / "ssh") as server:
            hosts = "2" if server is None else f"localhost@127.0.0.1, {OTHER}@127.0.0.1"
            settings = ["lora_parameters.rank=4", f"hosts={hosts}"]
            command = mlx_lm_command(recipes.apply_settings(project.recipe, settings))
            subprocess.run(
                ["sh", "-c", command],
                cwd=tmp_path,
                env={**os.environ, "PATH": ":".join([*path, os.environ["PATH"]])},
                timeout=120,
                check=True,
            )
        for rank in range(2):
            assert (tmp_path / f"rank-{rank}").read_text().startswith("of 2: lora_parameters")


class TestLostRanks:
    def test_a_killed_one_ends_the_run_which_is_saved_and_names_it(self, project: Project) -> None:
        run = project.start("hosts=2", "batch_size=3")
        wait_for_first_step(run)
        others = _processes_of(run)
        assert len(others) == 1
        os.kill(others[0].pid, signal.SIGKILL)
        ending = _ended(run)
        assert isinstance(ending, ev.RunFailed)
        assert "was ended by SIGKILL; resume it from step" in ending.message
        assert ending.cause == "rank_lost"
        assert f"Step {ending.step + 1}: rank" in ending.message
        assert _all_gone(others)
        (checkpoint,) = run.checkpoints.iterdir()
        assert int(checkpoint.name) == ending.step

    def test_none_stays_when_rank_0_is_killed_even_if_it_is_stopped(self, project: Project) -> None:
        run = project.start("hosts=2", "batch_size=2")
        wait_for_first_step(run)
        (other,) = _processes_of(run)
        os.kill(other.pid, signal.SIGSTOP)
        os.kill(_rank_0(run), signal.SIGKILL)
        eventually(lambda: _all_gone([other]))
