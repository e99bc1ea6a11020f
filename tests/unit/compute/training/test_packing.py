"""Packed records: the same loss as in rows of their own, or a refusal with the reason."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.utils import _get_classes

from mlxft.compute.arrays import named_arrays, number
from mlxft.compute.training import operations, packing
from mlxft.compute.training import step as steps
from mlxft.compute.training.batches import batch_arrays
from mlxft.compute.training.loss import chunked_loss, plain_loss
from mlxft.compute.training.start_checks import verified
from mlxft.errors import ModelError, RunError
from mlxft.runs import events as ev
from support import families as more_families
from support.architectures import ARCHITECTURES, RECURRENT, VOCABULARY
from support.training import MakeRun, stop_after

FAMILIES = {**ARCHITECTURES, **RECURRENT}

SEQUENTIAL = ("lfm2", "lfm2_moe", *RECURRENT)
"""Families with recurrences or convolutions, which only training's operations keep apart."""

SCALED_BY_POSITION = ("hunyuan_v1_dense", "ministral3")
"""Families whose attention depends on absolute positions."""

WIDTH = 97
"""Tokens of a packed row."""

REFUSED = (*SCALED_BY_POSITION, "gemma3n")


def make_model(family: str) -> Any:
    """A random model whose norms and biases aren't 0 or 1, as in trained ones."""
    config = FAMILIES[family]
    model_class, arguments = _get_classes(config)
    mx.random.seed(3)
    model = model_class(arguments.from_dict(config))
    model.apply(lambda array: array + 0.05 * mx.random.normal(array.shape, array.dtype))
    mx.eval(model.parameters())
    return model


class TestLoss:
    @pytest.mark.parametrize("family", [each for each in FAMILIES if each not in REFUSED])
    def test_of_packed_records_equals_that_of_single_ones(self, family: str) -> None:
        """With lengths beyond the sliding windows, masked prompts and padding."""
        model = make_model(family)
        chance = np.random.default_rng(1)
        spans = ((12, 1), (19, 5), (7, 3))
        records = [chance.integers(0, VOCABULARY, length, np.int32) for length, _ in spans]
        row = np.zeros((1, 48), np.int32)
        trained, segments = np.zeros((1, 48), np.bool_), np.zeros((1, 48), np.int32)
        apart, start = 0.0, 0
        for number_, (record, (length, first)) in enumerate(zip(records, spans, strict=True), 1):
            alone = batch_arrays(record[None], (np.arange(length) >= first)[None])
            apart += number(plain_loss(model, alone)[0]) * (length - first)
            row[0, start : start + length] = record
            trained[0, start + first : start + length] = True
            segments[0, start : start + length] = number_
            start += length
        for each in (plain_loss, chunked_loss):
            contexts = [operations.replaced, *([] if family in SEQUENTIAL else [nullcontext])]
            for context in contexts:
                with context():
                    together, count = each(model, batch_arrays(row, trained, segments))
                    total = number(together) * number(count)
                assert total == pytest.approx(apart, abs=1e-4)

    def test_of_a_step_and_its_update_are_equal(self, make_run: MakeRun) -> None:
        settings = ("iters=1", "batch_size=12", "val_batches=-1", "mask_prompt=true")
        apart, together = (
            make_run(*settings, "max_seq_length=256", f"packing={each}") for each in (False, True)
        )
        apart.train()
        together.train()
        (alone,), (packed,) = apart.of(ev.StepFinished), together.of(ev.StepFinished)
        assert packed.tokens == alone.tokens
        assert packed.loss == pytest.approx(alone.loss, abs=1e-5)
        assert packed.gradient_norm == pytest.approx(alone.gradient_norm, rel=1e-4)
        (alone_valid,), (valid,) = (each.of(ev.ValidationFinished) for each in (apart, together))
        assert valid.tokens == alone_valid.tokens
        assert valid.loss == pytest.approx(alone_valid.loss, abs=1e-5)


class TestRefusal:
    @pytest.mark.parametrize("family", SEQUENTIAL)
    def test_of_recurrences_and_convolutions_that_ignore_where_records_begin(
        self, family: str
    ) -> None:
        reason = packing.refusal(make_model(family), plain_loss, "float32", 2, width=WIDTH)
        assert reason is not None
        assert "next to another record" in reason

    @pytest.mark.parametrize("family", SCALED_BY_POSITION)
    def test_of_attention_by_absolute_position(self, family: str) -> None:
        reason = packing.refusal(make_model(family), plain_loss, "float32", 2, width=WIDTH)
        assert reason is not None
        assert "next to another record" in reason

    @pytest.mark.parametrize("family", ["mistral4", "mistral3"])
    def test_of_attention_that_depends_on_positions_only_in_rows_beyond_a_threshold(
        self, family: str
    ) -> None:
        model = more_families.make_model(family)
        assert packing.refusal(model, plain_loss, "float32", 2, width=34) is None
        reason = packing.refusal(model, plain_loss, "float32", 2, width=WIDTH)
        assert reason is not None
        assert reason.endswith("at the end of a row of 97 tokens")

    def test_of_rows_beyond_the_positions_that_a_config_scales_attention_from(
        self, make_run: MakeRun, tmp_path: Path
    ) -> None:
        model = more_families.make_family(tmp_path / "mistral3", "mistral3")
        run = make_run(f"model={model}", "packing=true", "max_seq_length=64")
        with pytest.raises(ModelError, match=r"rows of more than 40 tokens .* to 40 or packing"):
            run.train()

    @pytest.mark.parametrize("family", ["llama", "gemma3_text", "qwen3_moe", "deepseek_v3"])
    def test_of_attention_that_ignores_the_mask(
        self, family: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = make_model(family)
        loss = verified(model).loss
        assert packing.refusal(model, loss, "float32", 2, width=WIDTH) is None

        def causal(*_: Any, **__: Any) -> str:
            return "causal"

        monkeypatch.setattr(packing.PackedCache, "make_mask", causal)
        assert packing.refusal(model, loss, "float32", 2, width=WIDTH) is not None

    @pytest.mark.parametrize("rows", [2, 3, 4])
    def test_of_attention_that_applies_one_rows_mask_to_all(self, rows: int) -> None:
        model = make_model("gemma2")
        assert packing.refusal(model, plain_loss, "float32", rows, width=WIDTH) is not None
        assert packing.refusal(model, plain_loss, "float32", 1, width=WIDTH) is None

    def test_suggests_single_rows_where_they_work(
        self, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(packing, "refusal", lambda *_, width: "of many" if _[-1] > 1 else None)
        run = make_run("packing=true", "batch_size=2")
        with pytest.raises(ModelError, match=r"of many; set batch_size to 1 or packing to false"):
            run.train()

    def test_ends_the_run_before_its_first_step(
        self, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(packing.PackedCache, "offset", None)
        run = make_run("packing=true")
        with pytest.raises(
            ModelError, match=r"can't train packed rows because .*; set packing to false"
        ):
            run.train()

    def test_leaves_the_model_unchanged(self) -> None:
        model = make_model("llama").train()
        before = named_arrays(model.parameters())
        packing.refusal(model, plain_loss, "float32", 2, width=WIDTH)
        assert model.training
        assert all(mx.array_equal(each, before[name]) for name, each in before.items())


class TestRun:
    def test_it_needs_fewer_steps_per_epoch(self, make_run: MakeRun) -> None:
        run = make_run("packing=true", "max_seq_length=256", "iters=4")
        run.train()
        (data,) = run.of(ev.DataPrepared)
        assert data.rows < data.train_records == 12
        assert data.steps_per_epoch == -(-data.rows // 2) < 6
        first = run.of(ev.StepFinished)[: data.steps_per_epoch]
        assert sum(each.tokens for each in first) == data.trained_tokens

    @pytest.mark.parametrize("grad_checkpoint", ["false", "true"])
    def test_it_resumes_exactly(self, make_run: MakeRun, grad_checkpoint: str) -> None:
        settings = (
            "packing=true",
            "max_seq_length=128",
            "lora_parameters.dropout=0.1",
            f"grad_checkpoint={grad_checkpoint}",
        )
        whole, parts = make_run(*settings), make_run(*settings)
        whole.train()
        parts.train(stop_after(2))
        parts.train()
        assert parts.adapter() == whole.adapter()

    def test_a_failed_step_names_all_records_of_its_rows(
        self, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        good = steps.Stepper.add_gradient

        def spoiled(stepper: Any, step: int, batch: Any) -> steps.StepResult:
            return replace(good(stepper, step, batch), loss=math.nan)

        monkeypatch.setattr(steps.Stepper, "add_gradient", spoiled)
        run = make_run("batch_size=1", "max_seq_length=256", "packing=true")
        with pytest.raises(RunError, match=r"Step 1: .* lines \d+, \d+"):
            run.train()
