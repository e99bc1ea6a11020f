"""A few training steps of a model with random weights, by this trainer, mlx_lm's or PEFT.

Each function measures in the process that calls it, which should do nothing else.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from mlxft.engine.blas import blas_environment
from mlxft.recipe import Recipe, apply_settings
from random_models import SHAPES, build, described, started

WARM_UP = 1
"""Steps that aren't timed: kernels are compiled in them."""


@dataclass(frozen=True, kw_only=True)
class Steps:
    """What is trained; `layers` of -1 are all, `bits` of None are dense weights."""

    shape: str
    rows: int
    length: int
    layers: int = -1
    rank: int = 8
    bits: int | None = None
    mode: str = "affine"
    checkpoint: bool = True
    steps: int = 3

    @property
    def recipe(self) -> Recipe:
        """The settings of both trainers that use MLX."""
        return apply_settings(
            Recipe(batch_size=self.rows, num_layers=self.layers, grad_checkpoint=self.checkpoint),
            [f"max_seq_length={self.length + 1}", f"lora_parameters.rank={self.rank}"],
        )

    def result(self, seconds: list[float], peak: int | None) -> dict[str, Any]:
        """Tokens per second by the median of the timed steps, and the peak in bytes."""
        timed = statistics.median(seconds[WARM_UP:])
        return {
            "tokens_per_second": round(self.rows * self.length / timed, 1),
            "peak": peak,
            "first_step": round(seconds[0], 1),
        }


def ours(job: Steps) -> dict[str, Any]:
    """This trainer's steps."""
    backend: Any = import_module("mlxft.compute.backend")  # loads a fast BLAS, before mlx
    import mlx.core as mx
    import numpy as np

    from mlxft.compute.measuring.random_models import attached
    from mlxft.compute.training.batches import batch_arrays
    from mlxft.compute.training.limits import clear_cache, training_limits

    recipe = job.recipe
    loaded = attached(described(job.shape, job.bits, job.mode), recipe)
    ready = started(loaded, recipe, job.length + 1)
    tokens = _tokens(job)
    batch = batch_arrays(tokens, np.ones(tokens.shape, np.bool_))
    mx.eval(loaded.model.parameters(), ready.optimizer.state)
    mx.clear_cache()
    mx.reset_peak_memory()
    seconds: list[float] = []
    with training_limits(ready.run_ahead_limit):
        for step in range(1, WARM_UP + job.steps + 1):
            begun = time.perf_counter()
            ready.stepper.add_gradient(step, batch)
            ready.stepper.update(recipe.learning_rate)
            clear_cache(recipe.clear_cache_threshold)
            seconds.append(time.perf_counter() - begun)
    found = job.result(seconds, mx.get_peak_memory())
    backend.close()
    return found


def mlx_lm(job: Steps) -> dict[str, Any]:
    """Steps of mlx_lm's own trainer; on a GPU with MLX's own defaults."""
    if not _on_gpu():
        import_module("mlxft.compute.backend")  # the fast BLAS for it too
    import mlx.core as mx
    import mlx.optimizers as optim
    from mlx_lm.tuner import trainer
    from mlx_lm.tuner.datasets import CacheDataset
    from mlx_lm.tuner.utils import linear_to_lora_layers

    from mlxft import recipe as recipes

    recipe = job.recipe
    on_cpu = mx.default_device() == mx.Device(mx.cpu)
    dtype = "float32" if on_cpu else "bfloat16"
    model = build(described(job.shape, job.bits, job.mode), dtype)
    model.freeze()
    layers = len(model.layers) if job.layers < 0 else job.layers
    linear_to_lora_layers(model, layers, recipes.to_mapping(recipe)["lora_parameters"])
    mx.clear_cache()
    mx.reset_peak_memory()
    times: list[float] = []

    def batches(**_: Any) -> Iterator[Any]:
        batch = mx.array(_tokens(job))
        spans = mx.array([[0, job.length + 1]] * job.rows)
        for _step in range(WARM_UP + job.steps):
            times.append(time.perf_counter())
            yield batch, spans
        times.append(time.perf_counter())

    never = sys.maxsize
    arguments = trainer.TrainingArgs(
        batch_size=job.rows,
        iters=WARM_UP + job.steps + 1,
        steps_per_report=never,
        steps_per_eval=never,
        steps_per_save=never,
        max_seq_length=job.length + 1,
        adapter_file=os.devnull,
        grad_checkpoint=job.checkpoint,
    )
    rows = [each.tolist() for each in _tokens(job)]
    data = CacheDataset([(row, 0) for row in rows])
    optimizer = optim.Adam(recipe.learning_rate)
    _without_saving(trainer.train, model, optimizer, data, arguments, batches)
    seconds = [after - before for before, after in itertools.pairwise(times)]
    return job.result(seconds, mx.get_peak_memory())


def _without_saving(
    train: Any, model: Any, optimizer: Any, data: Any, arguments: Any, batches: Any
) -> None:
    """Train without writing the adapter at the end."""
    import mlx.core as mx

    save, mx.save_safetensors = mx.save_safetensors, lambda *_: None
    try:
        train(model, optimizer, data, args=arguments, iterate_batches=batches)
    finally:
        mx.save_safetensors = save


def peft(job: Steps) -> dict[str, Any]:
    """Steps of a transformers model with PEFT's LoRA; weights are dense bfloat16 on a GPU."""
    import peft as peft_library
    import torch
    import transformers

    gpu = torch.cuda.is_available()
    device, dtype = ("cuda", torch.bfloat16) if gpu else ("cpu", torch.float32)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**SHAPES[job.shape], use_cache=False)
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(
            config, dtype=dtype, attn_implementation="sdpa"
        )
    model = model.to(dtype)
    total = config.num_hidden_layers
    first = 0 if job.layers < 0 else max(0, total - job.layers)
    if job.checkpoint:
        # Not reentrant: else inputs of the first trained block would need a gradient.
        model.gradient_checkpointing_enable({"use_reentrant": False})
    adapted = peft_library.get_peft_model(
        model,
        peft_library.LoraConfig(
            r=job.rank,
            lora_alpha=20 * job.rank,
            target_modules=[f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")],
            layers_to_transform=list(range(first, total)),
            layers_pattern="layers",
            task_type="CAUSAL_LM",
        ),
    )
    adapted.train()
    trained = [each for each in adapted.parameters() if each.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-5)
    tokens = torch.from_numpy(_tokens(job)).long().to(device)
    seconds: list[float] = []
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    for _ in range(WARM_UP + job.steps):
        started = time.perf_counter()
        adapted(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if gpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return job.result(seconds, torch.cuda.max_memory_allocated() if gpu else None)


SIDES = {"ours": ours, "mlx_lm": mlx_lm, "peft": peft}


def _tokens(job: Steps) -> Any:
    import numpy as np

    vocabulary = SHAPES[job.shape]["vocab_size"]
    shape = (job.rows, job.length + 1)
    return np.random.default_rng(0).integers(0, vocabulary, shape, np.int32)


def _on_gpu() -> bool:
    """Whether MLX has a GPU here; asked in another process, since MLX reads its settings once."""
    code = "import mlx.core as mx; print(mx.default_device() != mx.Device(mx.cpu))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip() == "True"


def measured(
    side: str, job: Steps, *, seconds: float, python: str = sys.executable
) -> dict[str, Any]:
    """A side's figures from a process of its own, or what `failed`.

    A process that has not ended after `seconds` is killed.
    """
    command = [python, str(Path(__file__)), side, json.dumps(asdict(job))]
    environment = {**os.environ, **blas_environment()}
    if python != sys.executable:
        core = Path(__file__).parent.parent / "core"
        environment["PYTHONPATH"] = f"{core}:{environment.get('PYTHONPATH', '')}"
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {seconds:.0f} s"}
    lines = done.stdout.splitlines()
    if done.returncode == 0 and lines:
        found: dict[str, Any] = json.loads(lines[-1])
        return found
    return {"failed": _reason(done.returncode, done.stderr)}


def _reason(code: int, errors: str) -> str:
    lowered = errors.lower()
    if code == -9 or any(each in lowered for each in ("out of memory", "bad_alloc", "malloc")):
        return "out of memory"
    last = [each for each in errors.splitlines() if each.strip()]
    return last[-1][:200] if last else f"exit code {code}"


if __name__ == "__main__":
    print(json.dumps(SIDES[sys.argv[1]](Steps(**json.loads(sys.argv[2])))))
