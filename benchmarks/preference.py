"""What a preference costs, and whether its runs resume exactly.

DPO on pairs is compared with training the same tokens as answers (sft): step by step in turns, with
DPO's reference pass counted in, on a llama with random weights. Then runs that train a tiny model
in engine processes are killed with SIGKILL at random moments and resumed, and must end with exactly
the adapter of an undisturbed run. ``--json`` prints one line: time_ratio, memory_ratio, resumes,
identical.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from mlxft.engine.blas import blas_environment
from mlxft.recipe import Recipe, apply_settings
from random_models import SHAPES, started
from support.project import Project, make_project
from support.training import Killed, killed, undisturbed

STEPS = 5
PROMPT, ANSWER = 48, 48
"""Tokens of each prompt and each answer."""


def measure(shape: str, layers: int, pairs: int, checkpointed: bool) -> dict[str, float]:
    """The time and memory of DPO as shares of those of sft; run it in a fresh process."""
    backend: Any = import_module("mlxft.compute.backend")  # loads a fast BLAS, before mlx
    import mlx.core as mx
    import numpy as np

    from mlxft.compute.measuring.random_models import attached
    from mlxft.compute.training.batches import batch_arrays
    from support.preferences import split_of

    recipe = apply_settings(
        Recipe(batch_size=pairs, grad_checkpoint=checkpointed), [f"num_layers={layers}"]
    )
    loaded = attached(SHAPES[shape], recipe)

    def stepper(loss: str) -> Any:
        return started(loaded, apply_settings(recipe, [f"loss={loss}"]), PROMPT + ANSWER).stepper

    split, batch = split_of(_pairs(pairs, SHAPES[shape]["vocab_size"]), "dpo")
    compared = split.arrays(batch)
    trained = np.zeros(compared.tokens.shape, np.bool_)
    trained[:, PROMPT : PROMPT + ANSWER] = True
    plain = batch_arrays(np.asarray(compared.tokens), trained)
    answers, preferences = stepper("sft"), stepper("dpo")
    mx.eval(loaded.model.parameters())

    def train_answers(step: int) -> None:
        answers.add_gradient(step, plain)
        answers.update(1e-4)

    def train_preference(step: int) -> None:
        split.keep_reference(batch, np.array(preferences.log_probabilities(compared)), other=False)
        preferences.add_gradient(step, split.arrays(batch))
        preferences.update(1e-4)

    (sft, sft_peak), (own, own_peak) = _in_turns(train_answers, train_preference)
    backend.close()
    return {
        "seconds_sft": sft,
        "seconds_dpo": own,
        "time_ratio": own / sft,
        "memory_ratio": own_peak / sft_peak,
    }


def _pairs(count: int, vocabulary: int) -> list[Any]:
    """Pairs of random tokens."""
    import numpy as np

    from support.preferences import Compared

    random = np.random.default_rng(0)

    def tokens(count: int) -> list[int]:
        found: list[int] = random.integers(0, vocabulary, count).tolist()
        return found

    return [Compared(tokens(PROMPT), tokens(ANSWER), tokens(ANSWER)) for _ in range(count)]


def _in_turns(*trains: Callable[[int], None]) -> list[tuple[float, int]]:
    """The median seconds of each one's steps, and its peak in bytes."""
    import mlx.core as mx

    seconds: list[list[float]] = [[] for _ in trains]
    peaks = [0 for _ in trains]
    for step in range(1, STEPS + 2):
        for number, train in enumerate(trains):
            mx.clear_cache()
            mx.reset_peak_memory()
            started = time.perf_counter()
            train(step)
            if step > 1:  # The first one compiles.
                seconds[number].append(time.perf_counter() - started)
                peaks[number] = max(peaks[number], mx.get_peak_memory())
    return [(statistics.median(taken), peak) for taken, peak in zip(seconds, peaks, strict=True)]


def measured(*point: object) -> dict[str, float]:
    """`measure` in a fresh process."""
    environment = {**os.environ, **blas_environment()}
    done = subprocess.run(
        [sys.executable, __file__, "--point", json.dumps(point)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def with_pairs(folder: Path) -> Project:
    """A project of a tiny model and pairs."""
    project = make_project(folder)
    for split, count in (("train", 40), ("valid", 8)):
        lines = (
            {
                "prompt": f"Turn on lamp {n}",
                "chosen": f"Lamp {n} is on.",
                "rejected": "The capital of Italy is Rome. " * (1 + n % 3),
            }
            for n in range(count)
        )
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "data" / f"{split}.jsonl").write_text(text)
    return project


def kill_and_resume(runs: int, seed: int, quiet: bool) -> list[Killed]:
    """Kill and resume this many runs, each once."""
    random = Random(seed)
    found: list[Killed] = []
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        # Runs of other projects on this machine don't matter.
        os.environ["MLXFT_RUNTIME"] = f"{folder}/r"
        os.environ["MLXFT_STATE"] = f"{folder}/state"
        os.environ["MLXFT_PEAKS"] = f"{folder}/peaks.jsonl"
        project = with_pairs(Path(folder) / "project")
        expected, seconds = undisturbed(project, "loss=dpo")
        while len(found) < runs:
            run = killed(project, random, expected, seconds, "loss=dpo")
            if run is None:
                continue
            found.append(run)
            if not quiet:
                verdict = "identical" if run.identical else "DIFFERENT"
                print(f"{len(found):3}  killed at step {run.step:3}  {verdict}", flush=True)
    return found


def main() -> None:
    """Measure and print; exits with 1 if any resumed adapter differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print only the line of JSON")
    parser.add_argument("--shape", choices=SHAPES, default="135m")
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--checkpointed", action="store_true", help="with gradient checkpointing")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--point", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.point:
        print(json.dumps(measure(*json.loads(arguments.point))))
        return
    cost = measured(arguments.shape, arguments.layers, arguments.pairs, arguments.checkpointed)
    found = kill_and_resume(arguments.runs, arguments.seed, arguments.json)
    identical = sum(run.identical for run in found)
    print(json.dumps({**cost, "resumes": len(found), "identical": identical}))
    sys.exit(identical != len(found))


if __name__ == "__main__":
    main()
