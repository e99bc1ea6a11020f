"""Why an adapter can't be exported in a form, known from the headers of files alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlxft.adapters.check import sizes_in
from mlxft.adapters.files import AdapterFiles, adapter_files
from mlxft.adapters.layers import adapted_layers
from mlxft.adapters.tensors import tensors_of
from mlxft.errors import ModelError
from mlxft.export.types import GGUF_FAMILIES, Form

_EXPERTS: Final = (".switch_mlp.", ".switch_glu.")
"""mlx-lm's names of a layer's experts in one array."""

_WRAPPED: Final = "language_model."
"""How mlx-lm begins the names of a text model inside another, which transformers doesn't."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What of an adapter and its model decides where it can go."""

    files: AdapterFiles
    family: str
    """The model_type; empty before the model is downloaded."""
    layers: tuple[str, ...]
    """Names of the layers with matrices of their own; none for a full fine-tune."""
    embeddings: tuple[str, ...]
    """Those of them that are embeddings."""
    rows: tuple[str, ...]
    """Names of the layers of which rows are trained."""
    experts: tuple[str, ...]
    """Those of them that hold all experts."""
    tied: bool
    """Whether the embedding is the head, too; false where that isn't known."""

    @property
    def is_full(self) -> bool:
        """Whether whole layers were trained, so that there is no adapter."""
        return self.files.kind == "full" and not self.files.is_peft

    @property
    def is_dora(self) -> bool:
        """Whether it has magnitudes."""
        return bool(self.files.config.get("use_dora")) or self.files.kind == "dora"


def subject_of(adapter: Path, model: Path) -> Subject:
    """Read the headers. `model` is a folder, which may be missing. Raises `ModelError`."""
    files = adapter_files(adapter)
    shapes = {name: each.shape for name, each in tensors_of(files.weights).items()}
    is_full = files.kind == "full" and not files.is_peft
    layers = () if is_full else adapted_layers(shapes, files.weights)
    sizes = sizes_in(model)
    return Subject(
        files=files,
        family=_family(model),
        layers=tuple(each.path for each in layers),
        embeddings=tuple(each.path for each in layers if each.is_embedding),
        rows=tuple(name.removesuffix(".rows") for name in shapes if name.endswith(".rows")),
        experts=tuple(
            each.path
            for each in layers
            if len(shapes[each.a]) > 2 or any(part in each.path for part in _EXPERTS)
        ),
        tied=bool(sizes) and "lm_head" not in sizes,
    )


def _family(model: Path) -> str:
    try:
        config = json.loads((model / "config.json").read_bytes())
        return str(config.get("model_type", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def refuse(form: Form, subject: Subject) -> None:
    """Raise `ModelError` for a form that can't hold the adapter."""
    if reason := refusal(form, subject):
        raise ModelError(reason)


def refusal(form: Form, subject: Subject) -> str:
    """Why a form can't hold the adapter, with the remedy; or empty."""
    if form in ("gguf", "gguf-adapter") and subject.family not in ("", *GGUF_FAMILIES):
        return (
            f"{subject.family} models are not written as GGUF, only {', '.join(GGUF_FAMILIES)}; "
            "export with --to mlx, which llama.cpp's convert_hf_to_gguf.py may convert."
        )
    match form:
        case "peft" if not subject.files.is_peft:
            return _without_peft(subject)
        case "adapter":
            return _without_mlx_lm(subject)
        case "gguf-adapter":
            return _without_llama_cpp(subject)
        case _:
            return ""


def _without_peft(subject: Subject) -> str:
    if subject.is_full:
        return "A full fine-tune has no adapter; export the model with --to mlx instead."
    if wrapped := [each for each in subject.layers if each.startswith(_WRAPPED)]:
        return (
            f"{wrapped[0]}: transformers has this {subject.family} model's layers under other "
            "names, so PEFT would not find them; export the fused model with --to mlx."
        )
    if subject.tied and (outside := (*subject.rows, *subject.embeddings)):
        key = "train_embeddings" if subject.rows else "lora_parameters.keys"
        return (
            f"{outside[0]}: PEFT trains an embedding for the input only, and this one is the head "
            f"too; export the fused model with --to mlx, or train without it in {key}."
        )
    if subject.is_dora and subject.embeddings:
        return (
            f"{subject.embeddings[0]}: DoRA on an embedding is not the same in PEFT; export the "
            "fused model with --to mlx, or train without it in lora_parameters.keys."
        )
    if subject.experts:
        return (
            f"{subject.experts[0]}: transformers keeps a layer's experts in one array, which "
            "PEFT's LoRA can't hold; export the fused model with --to mlx, or train without it in "
            "lora_parameters.keys."
        )
    return ""


def _without_mlx_lm(subject: Subject) -> str:
    if subject.files.is_peft:
        return f"{subject.files.weights}: this adapter is PEFT's; export the model with --to mlx."
    if subject.rows and not subject.is_full:
        return (
            f"{subject.files.weights}: mlx_lm has no layers for the rows that train_embeddings has "
            "trained; export the fused model with --to mlx."
        )
    return ""


def _without_llama_cpp(subject: Subject) -> str:
    if subject.is_full:
        return "A full fine-tune has no adapter; export the model with --to gguf."
    other = (*subject.rows, *subject.embeddings, *subject.experts)
    if subject.is_dora:
        other = subject.layers
    if other:
        return (
            f"{other[0]}: llama.cpp's adapters hold LoRA on linear layers only; export the fused "
            "model with --to gguf."
        )
    return ""
