"""What a form can't hold, said from the headers of files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from mlxft.errors import ModelError
from mlxft.export.refusal import refusal, refuse, subject_of
from mlxft.export.types import Form

LINEAR = "model.layers.0.self_attn.q_proj"
EMBEDDING = "model.embed_tokens"
EXPERTS = "model.layers.0.mlp.switch_mlp.up_proj"
WRAPPED = "language_model.model.layers.0.mlp.up_proj"


def adapter(folder: Path, layers: tuple[str, ...], **config: Any) -> Path:
    """An adapter's files with these layers, or with other names as they are."""
    folder.mkdir()
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in layers:
        experts = (4,) if layer == EXPERTS else ()
        parts = {"lora_a": (*experts, 8, 2), "lora_b": (*experts, 2, 8)}
        if layer.endswith(".rows"):
            shapes[layer] = (3, 8)
        else:
            shapes |= {f"{layer}.{part}": shape for part, shape in parts.items()}
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    save_file(arrays, folder / "adapters.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def model(folder: Path, *, tied: bool, family: str = "llama") -> Path:
    """A model's config and headers."""
    folder.mkdir()
    names = (EMBEDDING, *(() if tied else ("lm_head",)))
    arrays = {f"{name}.weight": np.zeros((16, 8), np.float32) for name in names}
    save_file(arrays, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": family}))
    return folder


LORA, DORA, FULL = ({"fine_tune_type": kind} for kind in ("lora", "dora", "full"))
PEFT = {"peft_type": "LORA", "r": 2, "lora_alpha": 4}


@pytest.mark.parametrize(
    ("layers", "config", "form", "says"),
    [
        ((LINEAR,), LORA, "peft", ""),
        ((LINEAR,), DORA, "peft", ""),
        ((LINEAR, EXPERTS), LORA, "peft", f"{EXPERTS}: transformers keeps a layer's experts"),
        ((WRAPPED,), LORA, "peft", "has this llama model's layers under other names"),
        ((LINEAR, EMBEDDING), LORA, "peft", "this one is the head too"),
        ((LINEAR, f"{EMBEDDING}.rows"), LORA, "peft", "train without it in train_embeddings"),
        ((), FULL, "peft", "export the model with --to mlx"),
        ((LINEAR,), LORA, "adapter", ""),
        ((f"{EMBEDDING}.rows",), LORA, "adapter", "mlx_lm has no layers for the rows"),
        ((LINEAR,), PEFT, "adapter", "this adapter is PEFT's"),
        ((LINEAR,), LORA, "gguf-adapter", ""),
        ((LINEAR,), DORA, "gguf-adapter", "export the fused model with --to gguf"),
        ((LINEAR, EXPERTS), LORA, "gguf-adapter", "hold LoRA on linear layers only"),
        ((f"{EMBEDDING}.rows",), LORA, "gguf-adapter", "hold LoRA on linear layers only"),
        ((LINEAR, EXPERTS, EMBEDDING), LORA, "gguf", ""),
    ],
)
def test_what_an_adapter_has_decides_where_it_can_go(
    tmp_path: Path, layers: tuple[str, ...], config: dict[str, Any], form: Form, says: str
) -> None:
    names = layers or (f"{LINEAR}.rows",)
    subject = subject_of(adapter(tmp_path / "a", names, **config), model(tmp_path / "m", tied=True))
    found = refusal(form, subject)
    assert says in found
    assert bool(found) == bool(says)


@pytest.mark.parametrize("layers", [(EMBEDDING,), (f"{EMBEDDING}.rows",)])
def test_an_embedding_that_is_no_head_goes_to_peft(tmp_path: Path, layers: tuple[str, ...]) -> None:
    untied = model(tmp_path / "m", tied=False)
    assert not refusal("peft", subject_of(adapter(tmp_path / "a", layers, **LORA), untied))


@pytest.mark.parametrize("form", ["gguf", "gguf-adapter"])
def test_a_family_that_is_not_written_is_refused(tmp_path: Path, form: Form) -> None:
    found = adapter(tmp_path / "a", (LINEAR,), **LORA)
    refuse(form, subject_of(found, tmp_path / "not downloaded"))
    other = model(tmp_path / "m", tied=True, family="mamba")
    with pytest.raises(ModelError, match="mamba models are not written as GGUF"):
        refuse(form, subject_of(found, other))
