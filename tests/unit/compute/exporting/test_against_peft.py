"""Exported PEFT adapters in PEFT on torch; skipped where these are not installed."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlxft.compute.exporting.export import Job, export
from mlxft.compute.models import loading
from mlxft.compute.models.variants import BASE, Variants
from mlxft.export.model_card import Origin
from mlxft.export.types import Quantize
from support.models import make_tiny_model
from support.training import MakeRun

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

TOKENS = [3, 9, 4, 7, 5, 2, 101, 102]


@pytest.mark.parametrize(
    "settings",
    [
        ("fine_tune_type=lora", "lora_parameters.scale=7"),
        ("fine_tune_type=dora",),
        ("lora_parameters.use_rslora=true", "lora_parameters.keys=self_attn.q_proj,lm_head"),
        ("train_embeddings=<|im_end|>",),
    ],
)
def test_logits_are_the_same(make_run: MakeRun, tmp_path: Path, settings: tuple[str, ...]) -> None:
    from transformers import AutoModelForCausalLM

    model = make_tiny_model(tmp_path / "model", tie_word_embeddings=False)
    run = make_run(f"model={model}", "learning_rate=0.02", "iters=12", *settings)
    run.train()
    job = Job(
        model=model,
        adapter=run.directory.path,
        recipe=run.directory.recipe(),
        data=None,
        form="peft",
        out=tmp_path / "peft",
        quantize=Quantize(),
        origin=Origin(run="tiny-1"),
    )
    found = export(job, on_progress=lambda *_: None, cancelled=lambda: False)
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    with torch.no_grad():
        theirs = peft.PeftModel.from_pretrained(base, found.folder)(torch.tensor([TOKENS]))
    variants = Variants(loading.load(model))
    variants.use(variants.saved(run.directory.path)[0])
    adapted = np.array(variants.loaded.model(mx.array([TOKENS])))
    variants.use(BASE)
    plain = np.array(variants.loaded.model(mx.array([TOKENS])))
    assert np.abs(theirs.logits.numpy() - adapted).max() < 1e-4
    assert np.abs(plain - adapted).max() > 0.1
