"""NEFTune: noise on embedded tokens, in training steps only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlxft.compute.models import adapters, loading
from mlxft.compute.models.embeddings import token_embedding
from mlxft.compute.training.embedding_noise import EmbeddingNoise
from mlxft.recipe import Recipe, apply_settings
from mlxft.runs import events as ev
from support.training import MakeRun, stop_after

LENGTHS = np.array([[5, 5, 5, 5, 5, 0], [2, 2, 3, 3, 3, 0]], np.int32)
"""The records' tokens of two rows, the second of them packed."""

ALPHA = 5.0


def noise(model: Any, seed: int) -> np.ndarray[Any, Any]:
    """What is added to the embedded tokens."""
    found = token_embedding(model)
    assert found is not None
    _, embedding = found
    tokens = mx.arange(LENGTHS.size).reshape(LENGTHS.shape)
    with EmbeddingNoise(model, ALPHA).added(mx.random.key(seed), mx.array(LENGTHS)):
        noisy = embedding(tokens)
    return np.array(noisy - embedding(tokens))


class TestNoise:
    def test_it_is_uniform_up_to_alpha_by_the_root_of_tokens_times_width(
        self, tiny_model: Path
    ) -> None:
        """The paper's formula, in which padding is no token."""
        model = loading.load(tiny_model).model
        found = np.concatenate([noise(model, seed) for seed in range(50)], axis=2)
        width = found.shape[2] // 50
        largest = ALPHA / np.sqrt(np.maximum(LENGTHS, 1) * width) * (LENGTHS > 0)
        assert np.abs(found).max(axis=2) == pytest.approx(largest, rel=1e-2)
        real = LENGTHS > 0
        variance = found.var(axis=2)[real] / (largest[real] ** 2 / 3)
        assert variance == pytest.approx(1, abs=0.1)

    def test_it_depends_on_the_key_alone(self, tiny_model: Path) -> None:
        model = loading.load(tiny_model).model
        assert np.array_equal(noise(model, 1), noise(model, 1))
        assert not np.array_equal(noise(model, 1), noise(model, 2))

    def test_an_embedding_with_an_adapter_is_noisy_too(self, tiny_model: Path) -> None:
        loaded = loading.load(tiny_model)
        settings = ["num_layers=-1", "lora_parameters.keys=model.embed_tokens"]
        adapters.attach(loaded, apply_settings(Recipe(), settings))
        assert token_embedding(loaded.model) == (
            "model.embed_tokens",
            loaded.model.model.embed_tokens,
        )
        assert np.abs(noise(loaded.model, 1)).max() > 0


class TestTraining:
    SETTINGS = (
        "neftune_noise_alpha=5",
        "lora_parameters.dropout=0.1",
        "val_batches=-1",
        "val_at_start=true",
        "learning_rate=1e-2",
    )

    def test_only_steps_are_noisy(self, make_run: MakeRun) -> None:
        settings = (*self.SETTINGS, "sample_prompt=Turn on the lamp.", "iters=2")
        noisy, plain = make_run(*settings), make_run(*settings[1:])
        noisy.train()
        plain.train()
        for kind in (ev.ValidationFinished, ev.SampleAnswered):
            first, last = noisy.of(kind)[0], plain.of(kind)[0]
            assert first.step == last.step == 0
            for name in ("loss", "text"):
                assert getattr(first, name, None) == getattr(last, name, None)
        assert all(a != b for a, b in zip(noisy.losses, plain.losses, strict=True))

    def test_a_resume_repeats_it(self, make_run: MakeRun) -> None:
        whole, parts = make_run(*self.SETTINGS), make_run(*self.SETTINGS)
        whole.train()
        parts.train(stop_after(3))
        parts.train()
        assert parts.adapter() == whole.adapter()

    def test_recomputed_blocks_see_the_same(self, make_run: MakeRun) -> None:
        plain, recomputed = (
            make_run(*self.SETTINGS),
            make_run(*self.SETTINGS, "grad_checkpoint=true"),
        )
        plain.train()
        recomputed.train()
        assert recomputed.losses == pytest.approx(plain.losses, rel=1e-5)

    def test_packed_records_have_their_own_lengths(self, make_run: MakeRun) -> None:
        session = make_run("packing=true", "max_seq_length=256").session()
        session.prepare()
        train = session.prepared.train
        row = train.plan.batch(1).rows[0]
        expected = [len(train.sequences[index].tokens) for index in row]
        assert len(expected) > 1
        found = train.arrays(train.plan.batch(1)).record_lengths[0].tolist()
        assert found[: sum(expected)] == [each for each in expected for _ in range(each)]
        assert not any(found[sum(expected) :])
