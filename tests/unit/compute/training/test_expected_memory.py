"""The peak that a run expects of the model at hand."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlxft.compute import backend
from mlxft.compute.measuring import random_models
from mlxft.compute.training.batches import batch_arrays
from mlxft.memory.estimator import estimate
from mlxft.memory.shapes import ModelShapes
from mlxft.recipe import Recipe, apply_settings
from mlxft.runs import events as ev
from support.families import make_family
from support.training import MakeRun, write_records

SETTINGS = ("iters=1", "batch_size=1", "num_layers=-1", "max_seq_length=512")


def expected_and_measured(run: Any) -> tuple[int, int]:
    """The peak that the run expected before its step, and the step's."""
    measured = backend.peak_of(run.train)
    return run.of(ev.ModelLoaded)[0].expected_peak, measured


class TestGuess:
    @pytest.mark.parametrize("grad_checkpoint", [False, True])
    @pytest.mark.parametrize("family", ["nanbeige"])
    def test_is_corrected_by_small_steps_of_the_model(
        self, make_run: MakeRun, tmp_path: Path, family: str, grad_checkpoint: bool
    ) -> None:
        """By config.json alone it is far off."""
        data = write_records(tmp_path / "data", {"text": "word " * 250})
        run = make_run(
            *SETTINGS,
            f"model={make_family(tmp_path / family, family)}",
            f"data={data}",
            f"grad_checkpoint={grad_checkpoint}",
        )
        expected, measured = expected_and_measured(run)
        assert 0.75 * measured < expected < 1.35 * measured

    def test_that_is_more_than_there_is_warns(
        self, make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(backend, "memory_limit", lambda: 10**6)
        run = make_run(*SETTINGS, f"model={make_family(tmp_path / 'glm', 'glm')}")
        run.train()
        said = [each.message for each in run.of(ev.Warned)]
        assert any("small steps of this glm model the run needs" in each for each in said)

    def test_has_no_limit_on_what_is_scheduled_ahead(
        self, make_run: MakeRun, tmp_path: Path
    ) -> None:
        known, guessed = (
            make_run("iters=1"),
            make_run("iters=1", f"model={make_family(tmp_path / 'glm', 'glm')}"),
        )
        limits = []
        for run in (known, guessed):
            session = run.session()
            session.prepare()
            limits.append(session.prepared.run_ahead_limit)
        assert limits[0]
        assert limits[1] is None


class TestKnownFamily:
    def test_is_tried_where_its_parameters_are_not_those_of_the_weights(
        self, make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tried = []

        def note(*arguments: Any, **_: Any) -> Any:
            tried.append(arguments)
            raise MemoryError

        monkeypatch.setattr("mlxft.compute.training.expected_memory._tried_estimate", note)
        make_run("iters=1").train()
        assert tried == []
        monkeypatch.setattr(
            "mlxft.compute.models.loading.get_total_parameters", lambda _: 10_000_000
        )
        make_run("iters=1").train()
        assert tried


LLAMA = {
    "model_type": "llama",
    "rms_norm_eps": 1e-5,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "tie_word_embeddings": True,
}


class TestAccumulatedGradients:
    @pytest.mark.skipif(backend.kind() != "cpu", reason="a GPU adds all gradients at once")
    def test_count_beside_the_next_batchs_and_are_added_in_turn(self) -> None:
        """Of short rows, where gradients are most of a step."""
        settings = ("fine_tune_type=full", "num_layers=-1", "grad_accumulation_steps=2")
        recipe = apply_settings(Recipe(), [*settings, "batch_size=2"])
        gc.collect()
        before = backend.memory().active
        loaded = random_models.attached(LLAMA, recipe)
        ready = random_models.started(loaded, recipe, 33)
        tokens = np.random.default_rng(0).integers(0, 512, (2, 33), np.int32)
        batch = batch_arrays(tokens, np.ones(tokens.shape, np.bool_))
        mx.eval(loaded.model.parameters(), ready.optimizer.state)

        def step() -> None:
            ready.stepper.add_gradient(1, batch)
            ready.stepper.add_gradient(2, batch)
            ready.stepper.update(1e-5)

        measured = backend.memory().active - before + backend.peak_of(step)
        expected = estimate(ModelShapes.from_config(LLAMA), recipe, "cpu", None, 33).peak
        assert 0.97 * measured < expected < 1.03 * measured
