"""Runs of several processes (ranks): whether they equal one, and what is left when one is lost.

Without an option, on this machine's default device over MLX's own backend (ring on a CPU): a tiny
model by 2 and 4 ranks against one, a run of 2, then 1, then 4 ranks, and `--kills` runs of which a
rank, chosen at random, is killed at a random moment. Then one rank is stopped with SIGSTOP, and one
is stopped while rank 0 is killed. ``--json`` prints one line with

- `equality`: for each case the largest difference of a loss, a gradient's norm and a weight;
- `resume`: the same for the run that changes its number of ranks, and whether one that stays with 2
  is `identical`, bit for bit, after a resume;
- `kills`, of them `ended` in 30 s, `named` the rank, `saved` their last step, and `equal` after a
  resume; `slowest_end` in seconds;
- `stopped_end`: seconds until a run whose rank was stopped has ended, and whether it `named` it;
- `network`, where network namespaces can be made, for links of several delays (`delay`, seconds
  each way) to a second machine, which a real SSH server of its own reaches where there is one
  (`ssh`): the exit status of `check_hosts`, the differences, seconds of a `step` beside what those
  of `one` rank and the measured link say (`calculated`), `cut_end`, the seconds until a run has
  ended after the link is cut, whether it `named` that and `saved` its last step;
- `stray_processes` of all of these.

``--memory`` prints the peak of one rank and of each of two with as many rows, and what the estimate
says of both (`two_estimate` counts the messages of gradients), on a CPU.

``--gpu N`` measures N GPUs of this machine over NCCL against one, on a 1B of random weights in
bfloat16 and a 3B in 4 bits, or on `--shape` with `--bits`, and prints a line of JSON as soon as it
has one: `one` and `all`, trained tokens per second with `--rows` rows of `--length` tokens a rank,
their `ratio`, seconds of a step, what each rank `computed` of it, each rank's `peaks`, seconds of
the `sum` of a `message` of gradients, and `loss_gap` of the same first batch by one GPU and by all;
or an `error`, with logs on standard error. All of it ends within `--minutes`. Without a GPU the
runs are over the ring, which tries the benchmark: ``--gpu 2 --shape tiny --length 64 --steps 6``.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(Path(__file__).parent), *(each for each in sys.path if each)]
)

import numpy as np
import psutil
from safetensors.numpy import load_file

from mlxft import recipe as recipes
from mlxft.engine.launch import launch_training
from mlxft.errors import MlxftError
from mlxft.hosts.link import ranks_step
from mlxft.memory.estimator import estimate
from mlxft.memory.shapes import ModelShapes
from mlxft.runs import events as ev
from mlxft.runs import lock
from mlxft.runs.directory import RunDirectory
from mlxft_tui.cli.main import main as mlxft_tui
from random_models import SHAPES
from support.network import Machines, ssh_in_place_of, two_machines
from support.project import Project, events_of, eventually, make_project
from support.ssh_server import ssh_server
from support.training import wait_for_first_step

SHORT: Final = (
    "iters=6",
    "batch_size=5",
    "val_batches=2",
    "steps_per_eval=3",
    "steps_per_report=2",
    "save_every=2",
)

CASES: Final[dict[str, tuple[str, ...]]] = {
    "plain": (),
    "random": ("lora_parameters.dropout=0.2", "neftune_noise_alpha=5", "grad_checkpoint=true"),
    "accumulated": ("batch_size=3", "grad_accumulation_steps=2", "grad_accumulation_by=tokens"),
    "packed": ("packing=true", "batch_size=2", "lora_parameters.dropout=0.2"),
    "full": ("fine_tune_type=full", "max_grad_norm=0.5"),
}

END_SECONDS: Final = 30.0
"""A run whose rank is lost must have ended by then."""


@contextmanager
def own_project() -> Iterator[Project]:
    """A tiny project with state folders of its own."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        for name in ("RUNTIME", "STATE", "LOGS", "CACHE", "CONFIG"):
            os.environ[f"MLXFT_{name}"] = f"{folder}/{name.lower()}"
        os.environ["MLXFT_PEAKS"] = f"{folder}/peaks.jsonl"
        project = make_project(Path(folder) / "project")
        try:
            yield project
        finally:
            project.end_engines()


def ended(run: RunDirectory, seconds: float = 300.0) -> ev.AnyEvent:
    """The run's last event."""
    eventually(lambda: not run.is_live(), seconds)
    return events_of(run)[-1]


def trained(project: Project, *settings: str, seconds: float = 300.0) -> RunDirectory:
    """A run that came to its end."""
    run = project.start(*settings)
    last = ended(run, seconds)
    assert isinstance(last, ev.RunFinished), last
    return run


def resumed(run: RunDirectory, hosts: int, until: int | None = None) -> ev.AnyEvent:
    """The last event of a run that is resumed with so many ranks."""
    changed = recipes.apply_settings(run.recipe(), [f"hosts={hosts}"])
    recipes.save(changed, run.recipe_file)
    launch_training(run, until=until)
    return ended(run)


def difference(one: RunDirectory, other: RunDirectory) -> dict[str, float]:
    """The largest differences of two runs of the same recipe."""

    def of_steps(run: RunDirectory, field: str) -> np.ndarray:
        found = {
            (each.step, type(each).__name__): getattr(each, field, None)
            for each in events_of(run)
            if isinstance(each, (ev.StepFinished, ev.ValidationFinished))
        }
        return np.array([value for value in found.values() if value is not None])

    left, right = load_file(one.adapter_file), load_file(other.adapter_file)
    return {
        "loss": float(np.abs(of_steps(one, "loss") - of_steps(other, "loss")).max()),
        "norm": float(
            np.abs(of_steps(one, "gradient_norm") - of_steps(other, "gradient_norm")).max()
        ),
        "weight": max(float(np.abs(left[name] - right[name]).max()) for name in left),
    }


def equality(project: Project) -> dict[str, dict[str, float]]:
    """Each case by 2 and by 4 ranks against one."""
    found = {}
    for name, settings in CASES.items():
        alone = trained(project, *SHORT, *settings)
        for count in (2, 4):
            several = trained(project, *SHORT, *settings, f"hosts={count}")
            found[f"{name}, {count} ranks"] = difference(alone, several)
    return found


def changing(project: Project) -> dict[str, Any]:
    """A run of 2, then 1, then 4 ranks against one of one rank; and one of 2 that is resumed."""
    settings = (*SHORT, *CASES["random"])
    alone, run = trained(project, *settings), project.create(*settings)
    for hosts, until in ((2, 2), (1, 4), (4, None)):
        last = resumed(run, hosts, until)
        assert isinstance(last, ev.RunFinished), last
    whole, parts = trained(project, *settings, "hosts=2"), project.create(*settings)
    for until in (3, None):
        last = resumed(parts, 2, until)
        assert isinstance(last, ev.RunFinished), last
    identical = parts.adapter_file.read_bytes() == whole.adapter_file.read_bytes()
    return {**difference(alone, run), "identical": identical}


def others_of(run: RunDirectory) -> list[psutil.Process]:
    """The processes of the run's other ranks."""
    holder = lock.holder(run.lock_file)
    children = psutil.Process(int(holder)).children() if holder else []
    return [each for each in children if "rank" in each.cmdline()]


def strays(processes: Sequence[psutil.Process], patience: float = 5) -> int:
    """How many of them have stayed, after some seconds."""
    _, alive = psutil.wait_procs(processes, timeout=patience)
    for each in alive:
        each.kill()
    return len(alive)


def killed(project: Project, random: Random, expected: RunDirectory) -> dict[str, Any]:
    """One run of which a rank is killed, and its resume with another number of ranks."""
    ranks = random.choice((2, 3))
    run = project.start(*LONG, f"hosts={ranks}")
    wait_for_first_step(run, 0.02)
    time.sleep(random.uniform(0, 1.5))
    others = others_of(run)
    if len(others) < ranks - 1:
        return {"met": False, "strays": strays(others)}
    others[random.randrange(len(others))].send_signal(signal.SIGKILL)
    started = time.monotonic()
    last = ended(run, 120)
    seconds = time.monotonic() - started
    if isinstance(last, ev.RunFinished):
        return {"met": False, "strays": strays(others)}
    saved = sorted(int(each.name) for each in run.checkpoints.iterdir())
    steps = [each.step for each in events_of(run) if isinstance(each, ev.StepFinished)]
    again = resumed(run, random.choice((1, 2)))
    return {
        "met": True,
        "seconds": seconds,
        "named": isinstance(last, ev.RunFailed) and "was ended by SIGKILL" in last.message,
        "saved": saved[-1:] == steps[-1:],
        "equal": isinstance(again, ev.RunFinished) and difference(expected, run)["loss"] < 1e-5,
        "strays": strays(others),
    }


LONG: Final = (*SHORT[1:], "iters=300", "save_every=50", "steps_per_eval=100", "optimizer=sgd")


def kills(project: Project, random: Random, count: int) -> dict[str, Any]:
    """So many runs of which a rank is killed."""
    expected = trained(project, *LONG)
    found: list[dict[str, Any]] = []
    stray = 0
    while len(found) < count:
        one = killed(project, random, expected)
        stray += one["strays"]
        if one["met"]:
            found.append(one)
            print(json.dumps(one), file=sys.stderr)
    return {
        "kills": count,
        "ended": sum(each["seconds"] < END_SECONDS for each in found),
        "named": sum(each["named"] for each in found),
        "saved": sum(each["saved"] for each in found),
        "equal": sum(each["equal"] for each in found),
        "slowest_end": max(each["seconds"] for each in found),
        "stray_processes": stray,
    }


def stopped(project: Project) -> dict[str, Any]:
    """A rank that is stopped; and one that is while rank 0 is killed."""
    run = project.start("hosts=2", "batch_size=2")
    wait_for_first_step(run)
    others = others_of(run)
    others[0].send_signal(signal.SIGSTOP)
    started = time.monotonic()
    last = ended(run, 120)
    seconds = time.monotonic() - started
    stray = strays(others)
    run = project.start("hosts=2", "batch_size=2")
    wait_for_first_step(run)
    others = others_of(run)
    others[0].send_signal(signal.SIGSTOP)
    project.end_engines()
    return {
        "stopped_end": seconds,
        "stopped_named": isinstance(last, ev.RunFailed) and "rank 1" in last.message,
        "stray_processes": stray + strays(others),
    }


def network(project: Project) -> dict[str, Any]:
    """A rank on another machine behind links of several delays, each of which is cut."""
    alone = trained(project, *SHORT, *TIMED)
    found = [_behind(delay, project, alone) for delay in DELAYS]
    met = [each for each in found if each is not None]
    stray = sum(each.pop("stray_processes") for each in met)
    return {"network": met or None, "stray_processes": stray}


def _behind(delay: float, project: Project, alone: RunDirectory) -> dict[str, Any] | None:
    with tempfile.TemporaryDirectory() as folder, two_machines(delay) as machines:
        if machines is None:
            return None
        with reached_by_ssh(machines, Path(folder)) as ssh, machines.on_first():
            check = [
                "check-hosts",
                "--dir",
                str(project.folder),
                "--set",
                f"hosts={machines.hosts}",
            ]
            with redirect_stdout(sys.stderr):
                status = mlxft_tui([*check, str(project.folder / "recipe.yaml")])
            return {
                "delay": delay,
                "ssh": ssh,
                "check_hosts": status,
                **_compared(alone, trained(project, *SHORT, *TIMED, f"hosts={machines.hosts}")),
                **_cut(machines, project),
            }


@contextmanager
def reached_by_ssh(machines: Machines, folder: Path) -> Iterator[str]:
    """Have ``ssh`` reach the second machine, by a real server where there is one; says which."""
    with ssh_server(folder, machines.addresses[1], machines.on_second) as server:
        if server is not None:
            yield "sshd"
            return
        with ssh_in_place_of(machines, folder):
            yield "a stand-in"


def _compared(alone: RunDirectory, apart: RunDirectory) -> dict[str, Any]:
    """The differences of two runs, and whether a step took what the measured link says."""
    (joined,) = (each for each in events_of(apart) if isinstance(each, ev.RanksJoined))
    one, step = _step(alone), _step(apart)
    rows = alone.recipe().batch_size
    said = ranks_step(one, rows=rows, ranks=2, message=joined.message, link=joined.link)
    return {
        **difference(alone, apart),
        "latency": joined.link.latency,
        "one": one,
        "step": step,
        "calculated": said,
    }


def _cut(machines: Machines, project: Project) -> dict[str, Any]:
    """A run whose link is cut."""
    run = project.start("batch_size=2", f"hosts={machines.hosts}")
    wait_for_first_step(run)
    others = [*others_of(run), *processes_on(machines)]
    machines.cut()
    started = time.monotonic()
    last = ended(run, 120)
    steps = [each.step for each in events_of(run) if isinstance(each, ev.StepFinished)]
    return {
        "cut_end": time.monotonic() - started,
        "named": isinstance(last, ev.RunFailed) and "connection" in last.message,
        "saved": (run.checkpoints / f"{steps[-1]:07d}").is_dir(),
        "stray_processes": strays(others, 40),
    }


def processes_on(machines: Machines) -> list[psutil.Process]:
    """The ranks on the second machine."""
    place = os.stat(machines.places[1]).st_ino
    found = []
    for each in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if "rank" in each.cmdline() and os.stat(f"/proc/{each.pid}/ns/net").st_ino == place:
                found.append(each)
    return found


def _step(run: RunDirectory) -> float:
    return statistics.median(
        each.seconds for each in events_of(run) if isinstance(each, ev.StepFinished)
    )


DELAYS: Final = (0.0, 0.005, 0.05)
"""Seconds that a packet takes from one machine to the other."""

TIMED: Final = ("iters=30", "steps_per_eval=15", "save_every=30", "steps_per_report=10")


BUILD: Final = """
import json, sys
from pathlib import Path
from mlxft.compute import backend
from mlx_lm.utils import save_model
from random_models import build, described
from support.models import make_tiny_model
folder, shape, bits = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]) or None
config = described(shape, bits)
make_tiny_model(folder)
(folder / "model.safetensors").unlink()
save_model(folder, build(config, "bfloat16"))
more = {**config, "torch_dtype": "bfloat16"}
kept = json.loads((folder / "config.json").read_text())
(folder / "config.json").write_text(json.dumps({**kept, **more}))
"""
"""Writes a model of random weights; in a process of its own, which frees the GPU."""


def build_model(folder: Path, shape: str, bits: int | None, seconds: float = 300.0) -> Path:
    """A folder with a model of random weights."""
    command = [sys.executable, "-c", BUILD, str(folder), shape, str(bits or 0)]
    subprocess.run(command, check=True, timeout=seconds)
    return folder


def write_long_records(folder: Path, length: int, count: int) -> Path:
    """So many records of more than `length` tokens."""
    folder.mkdir()
    records = [{"prompt": f"{n}", "completion": f"lamp {n} " * length} for n in range(count)]
    for split, few in (("train", records), ("valid", records[:8])):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in few))
    return folder


MEMORY_CASES: Final[dict[str, tuple[str, ...]]] = {
    "LoRA": ("max_seq_length=129",),
    "LoRA, rank 64, short": ("lora_parameters.rank=64", "max_seq_length=33"),
    "full": ("fine_tune_type=full", "max_seq_length=257"),
    "full, short": ("fine_tune_type=full", "max_seq_length=33"),
    "full, short, accumulated": (
        *("fine_tune_type=full", "max_seq_length=33"),
        "grad_accumulation_steps=2",
    ),
    "full, short, sgd": ("fine_tune_type=full", "max_seq_length=33", "optimizer=sgd"),
}


def memory() -> dict[str, Any]:
    """Peaks of one rank, and of each of two with as many rows, beside the estimates in bytes."""
    with own_project() as project:
        model = build_model(project.folder / "random", "narrow", None)
        data = write_long_records(project.folder / "long", 256, 64)
        shapes = ModelShapes.from_config(json.loads((model / "config.json").read_text()))
        every = (f"model={model}", f"data={data}", "iters=4", "val_batches=0", "num_layers=-1")
        found = {}
        for name, settings in MEMORY_CASES.items():
            own = (*every, *settings, "steps_per_report=4", "save_every=1000000")
            one = trained(project, *own, "batch_size=2")
            two = trained(project, *own, "batch_size=4", "hosts=2")
            reports = [each for each in events_of(two) if isinstance(each, ev.RanksReported)]
            ended_alone = events_of(one)[-1]
            assert isinstance(ended_alone, ev.RunFinished)
            found[name] = {
                "one": ended_alone.peak_memory,
                "one_estimate": estimate(shapes, one.recipe(), "cpu", None).peak,
                "two": [each.peak_memory for each in reports[-1].ranks],
                "two_estimate": estimate(shapes, two.recipe(), "cpu", None).peak,
            }
        return found


class GpuCase(NamedTuple):
    """A shape of random weights, and the bits of a weight where it is quantized."""

    shape: str
    bits: int | None

    @property
    def name(self) -> str:
        """As a line begins."""
        return f"{self.shape} {f'{self.bits}-bit' if self.bits else 'bf16'}"


GPU_CASES: Final = (GpuCase("1b", None), GpuCase("3b", 4))


def gpus(count: int, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The speed of several GPUs against one, for each case; an `error` where there is none."""
    # NVLink's multicast, where it fails, takes the GPUs of the whole host with it.
    os.environ.setdefault("NCCL_NVLS_ENABLE", "0")
    cases: Sequence[GpuCase] = GPU_CASES
    if arguments.shape:
        cases = (GpuCase(arguments.shape, arguments.bits),)
    end = time.monotonic() + 60 * arguments.minutes
    for number, case in enumerate(cases):
        share = (end - time.monotonic()) / (len(cases) - number)
        with own_project() as project:
            found: dict[str, Any] = {"case": case.name, "ranks": count}
            try:
                found |= _against_one(count, case, arguments, project, time.monotonic() + share)
            except (AssertionError, subprocess.SubprocessError, MlxftError) as error:
                found["error"] = str(error)
                for log in sorted(project.folder.glob("adapters/*/*.log")):
                    print(f"{log}:\n{log.read_text()[-3000:]}", file=sys.stderr)
            yield found


def _against_one(
    count: int, case: GpuCase, arguments: argparse.Namespace, project: Project, end: float
) -> dict[str, Any]:
    def left() -> float:
        return max(1.0, end - time.monotonic())

    def run(*more: str) -> RunDirectory:
        return trained(project, *settings, *more, seconds=left())

    model = build_model(project.folder / "random", case.shape, case.bits, left())
    rows, length = arguments.rows, arguments.length
    settings = (
        f"model={model}",
        f"data={write_long_records(project.folder / 'long', length, 512)}",
        f"max_seq_length={length + 1}",
        f"iters={arguments.steps}",
        f"num_layers={min(16, SHAPES[case.shape]['num_hidden_layers'])}",
        "grad_checkpoint=true",
        "val_batches=0",
        "steps_per_report=5",
        "save_every=1000000",
    )
    one, every = run(f"batch_size={rows}"), run(f"batch_size={rows * count}", f"hosts={count}")
    first = [run(f"batch_size={rows}", "iters=1", f"hosts={hosts}") for hosts in (1, count)]
    speeds = [_speed(each) for each in (one, every)]
    found: dict[str, Any] = {
        "one": speeds[0],
        "all": speeds[1],
        "ratio": speeds[1] / speeds[0],
        "step_one": _step(one),
        "step_all": _step(every),
        "loss_gap": abs(_losses(first[0])[0] - _losses(first[1])[0]),
    }
    if count > 1:
        reported = [each for each in events_of(every) if isinstance(each, ev.RanksReported)][-1]
        (joined,) = (each for each in events_of(every) if isinstance(each, ev.RanksJoined))
        found |= {
            "computed": [each.seconds for each in reported.ranks],
            "peaks": [each.peak_memory for each in reported.ranks],
            "backend": joined.backend,
            "message": joined.message,
            "sum": joined.seconds,
        }
    return found


def _speed(run: RunDirectory) -> float:
    """Trained tokens per second, of the median step after the first ones."""
    steps = [each for each in events_of(run) if isinstance(each, ev.StepFinished)]
    return statistics.median(each.tokens / each.seconds for each in steps[len(steps) // 3 :])


def _losses(run: RunDirectory) -> list[float]:
    return [each.loss for each in events_of(run) if isinstance(each, ev.StepFinished)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory", action="store_true", help="peaks of two ranks on a CPU")
    parser.add_argument("--gpu", type=int, metavar="N", help="measure N GPUs against one")
    parser.add_argument("--shape", choices=sorted(SHAPES))
    parser.add_argument("--bits", type=int, choices=(4, 8))
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--minutes", type=float, default=9.0, help="that --gpu takes at most")
    arguments = parser.parse_args()
    if arguments.gpu:
        for line in gpus(arguments.gpu, arguments):
            print(json.dumps(line), flush=True)
        return
    if arguments.memory:
        found = memory()
    else:
        with own_project() as project:
            found = {"equality": equality(project), "resume": changing(project)}
            lost = kills(project, Random(arguments.seed), arguments.kills)
            every = (lost, stopped(project), network(project))
            stray = sum(each.pop("stray_processes") for each in every)
            for each in every:
                found |= each
            found["stray_processes"] = stray
    if arguments.json:
        print(json.dumps(found))
        return
    for key, value in found.items():
        print(f"{key}: {value}")


if __name__ == "__main__":
    main()
