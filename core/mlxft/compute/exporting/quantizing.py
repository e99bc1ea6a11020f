"""Writes a model quantized or dequantized beside its place, measures it, and moves it there."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_map
from mlx_lm.convert import mixed_quant_predicate_builder
from mlx_lm.utils import compute_bits_per_weight, load_model, quantize_model

from mlxft.compute.exporting import fused
from mlxft.compute.exporting.disk import refuse_not_utf8, writing
from mlxft.compute.exporting.export import (
    CARD_NAME,
    REPORT_NAME,
    OnProgress,
    written_beside,
)
from mlxft.compute.exporting.proof import Measured, compared, measure, steps_of
from mlxft.compute.exporting.samples import sample_of
from mlxft.compute.models import loading
from mlxft.compute.models.variants import BASE, Variants
from mlxft.compute.tokenization import load_tokenizer
from mlxft.errors import ModelError
from mlxft.export.model_card import quantized_card
from mlxft.export.place import refuse_taken
from mlxft.export.quantization import Quantization, Quantized
from mlxft.recipe import Recipe
from mlxft.text import path_json

_MEASUREMENTS = 2


@dataclass(frozen=True, kw_only=True)
class QuantizeJob:
    """A model to quantize, and where the records are that the loss is measured on."""

    model: Path
    recipe: Recipe
    """Its columns, chat template and trained parts; `model` is the model's name."""
    data: Path | None
    out: Path
    quantization: Quantization


def quantize(
    job: QuantizeJob, *, on_progress: OnProgress, cancelled: Callable[[], bool]
) -> Quantized:
    """Quantize or dequantize, load what was written and compare it with the model.

    Raises `ModelError`, `StorageError` and `ExportCancelledError`; the folder is complete or not
    there.
    """
    refuse_taken(job.out)
    refuse_not_utf8(job.out)

    return written_beside(
        job.out,
        lambda folder, report: _quantize(job, folder, report),
        on_progress=on_progress,
        cancelled=cancelled,
    )


def _quantize(job: QuantizeJob, folder: Path, report: OnProgress) -> Quantized:
    trust = job.recipe.trust_remote_code
    model, config, before = _converted(job)
    tokenizer = load_tokenizer(job.model, trust)
    variants = Variants(loading.load(job.model, trust))
    sample = sample_of(job.recipe, job.data, tokenizer, variants, BASE)
    total, steps = _MEASUREMENTS * steps_of(sample), itertools.count(1)

    def measured(found: Variants) -> Measured:
        return measure(
            found,
            BASE,
            tokenizer,
            sample,
            lambda: report("measuring", next(steps), total),
        )

    ours = measured(variants)
    del variants
    mx.clear_cache()
    after = compute_bits_per_weight(model)
    with writing(folder):
        fused.write(model, config, job.model, folder, lambda *done: report("saving", *done))
    report("loading", 0, 1)
    theirs = measured(Variants(loading.load(folder, trust)))
    found = Quantized(
        folder=str(job.out),
        quantization=job.quantization,
        source=sample.source,
        records=compared(sample),
        loss_before=ours.loss,
        loss=theirs.loss,
        largest_difference=float(abs(ours.logits - theirs.logits).max()),
        answers=len(ours.answers),
        same_answers=sum(a == b for a, b in zip(ours.answers, theirs.answers, strict=True)),
        bits_before=before,
        bits=after,
        size_before=_weights_size(job.model),
        size=_weights_size(folder),
    )
    with writing(folder):
        card = quantized_card(found, job.recipe.model)
        (folder / CARD_NAME).write_text(card, "utf-8", "surrogateescape")
        (folder / REPORT_NAME).write_bytes(path_json.indented(found))
        folder.rename(job.out)
    return found


def _weights_size(folder: Path) -> int:
    """Bytes of a model's weights."""
    return sum(each.stat().st_size for each in folder.glob("model*.safetensors"))


def _converted(job: QuantizeJob) -> tuple[Any, dict[str, Any], float]:
    """The model with other weights, read when they are used, its config, and the bits before."""
    wanted, name = job.quantization, job.recipe.model
    trust = job.recipe.trust_remote_code
    model, config = load_model(job.model, lazy=True, trust_remote_code=trust)
    before = compute_bits_per_weight(model)
    dtype, was_quantized = loading.stored_dtype(model), _is_quantized(model)
    if wanted.dequantize and not was_quantized:
        raise ModelError(f"{name}: its weights are not quantized; leave out --dequantize.")
    if was_quantized:
        loading.dequantize(model)
        model.update(tree_map(lambda each: _cast(each, dtype), model.parameters()))
        for key in ("quantization", "quantization_config"):
            config.pop(key, None)
    if wanted.dequantize:
        return model, config, before
    predicate = _mixed(wanted, model, name) if wanted.recipe else None
    model, config = quantize_model(
        model, config, wanted.group, wanted.own_bits, mode=wanted.mode, quant_predicate=predicate
    )
    if not _is_quantized(model):
        raise ModelError(
            f"{name}: no layer's width is a multiple of {wanted.group}; set --group-size to 32."
        )
    return model, config, before


def _mixed(wanted: Quantization, model: Any, name: str) -> Any:
    try:
        return mixed_quant_predicate_builder(wanted.recipe, model, wanted.group)
    except ValueError:
        raise ModelError(
            f"{name}: mlx_lm's {wanted.recipe} needs layers called down_proj, which this model "
            "lacks; use --bits instead."
        ) from None


def _is_quantized(model: Any) -> bool:
    return any("scales" in module for _, module in model.named_modules())


def _cast(array: mx.array, dtype: mx.Dtype) -> mx.array:
    return array.astype(dtype) if mx.issubdtype(array.dtype, mx.floating) else array
