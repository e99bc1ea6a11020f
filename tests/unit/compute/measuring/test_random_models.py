"""A random model is trained as a run trains its model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlxft.compute.measuring import random_models
from mlxft.compute.training import preparation
from mlxft.compute.training.step import Stepper
from mlxft.doctor.self_test.plan import llama
from support.training import MakeRun

BENCHMARKS = Path(__file__).parents[4] / "benchmarks"


def test_it_gets_the_choices_the_loss_and_the_limits_of_a_run(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    class Noted(Stepper):
        def __init__(self, model: Any, optimizer: Any, **options: Any) -> None:
            made.append((type(optimizer), options))
            super().__init__(model, optimizer, **options)

    for module in (preparation, random_models):
        monkeypatch.setattr(module, "Stepper", Noted)
    settings = ("attention=blocks", "compile_steps=never", "grad_checkpoint=true", "seed=7")
    more = ("max_grad_norm=1", "neftune_noise_alpha=5", "optimizer=adamw", "iters=1")
    run = make_run(*settings, *more)
    session = run.session()
    session.prepare()
    config = json.loads((Path(run.recipe.model) / "config.json").read_text())
    found = random_models.started(
        random_models.attached(config, run.recipe), run.recipe, session.prepared.train.longest
    )
    of_run, of_random = made
    assert of_random == of_run
    assert found.run_ahead_limit == session.prepared.run_ahead_limit
    assert found.run_ahead_limit


def test_quantized_weights_are_unpacked_on_a_cpu() -> None:
    config = llama(64, 128, layers=2, heads=(4, 2), vocabulary=96, bits=4)
    loaded = random_models.loaded_model(config)
    assert (loaded.dtype, loaded.is_quantized) == ("float32", False)
    assert loaded.quantization == "4-bit, groups of 64, dequantized for the CPU"


def test_benchmarks_that_compare_trainers_leave_mlx_its_own_settings() -> None:
    """Neither the import nor a random model loads this trainer."""
    script = """
import sys
import random_models
assert "mlx" not in sys.modules
random_models.build(random_models.described("tiny", 4), "float32")
assert "mlx_lm" in sys.modules and "mlxft.compute" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=BENCHMARKS, timeout=120)
