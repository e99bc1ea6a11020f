"""Writes an export beside its place, proves it, and moves it there."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import mlx.core as mx
import msgspec

from mlxft.adapters import base_model
from mlxft.adapters.files import CONFIG_NAME, WEIGHTS_NAME, adapter_files, weights_file
from mlxft.compute.exporting import fused, gguf_model, peft
from mlxft.compute.exporting.disk import refuse_not_utf8, writing
from mlxft.compute.exporting.proof import measure, proof, steps_of
from mlxft.compute.exporting.samples import sample_of
from mlxft.compute.models import demo, loading
from mlxft.compute.models.embeddings import head_is_tied
from mlxft.compute.models.variants import BASE, Variant, Variants
from mlxft.compute.tokenization import (
    Tokenizer,
    kept_template,
    load_tokenizer,
    of_adapter,
)
from mlxft.data.fingerprint import fingerprint
from mlxft.data.split_files import split_file
from mlxft.errors import ModelError
from mlxft.export.curve import CURVE_NAME, curve_svg
from mlxft.export.model_card import Origin, gguf_name, model_card, without_folders
from mlxft.export.place import beside, refuse_taken
from mlxft.export.refusal import refuse, subject_of
from mlxft.export.types import BITS, GGUF_TYPES, MODES, Exported, Form, Proof, Quantize
from mlxft.recipe import Recipe
from mlxft.recipe.chat_template import FILE_NAME
from mlxft.text import path_json

Stage = Literal["measuring", "saving", "loading"]
"""Measuring the adapter and the export, writing the files, and loading them again."""

OnProgress = Callable[[Stage, int, int], None]
T = TypeVar("T")

REPORT_NAME: Final = "export.json"
CARD_NAME: Final = "README.md"

_MEASUREMENTS: Final = 3


class ExportCancelledError(Exception):
    """The export was cancelled; nothing is left of it."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """An adapter to export, and where its model and data are."""

    model: Path
    adapter: Path
    recipe: Recipe
    data: Path | None
    form: Form
    out: Path
    quantize: Quantize
    origin: Origin


def export(job: Job, *, on_progress: OnProgress, cancelled: Callable[[], bool]) -> Exported:
    """Export, load what was written and compare it with the model and its adapter.

    Raises `ModelError`, `StorageError` and `ExportCancelledError`; the folder is complete or not
    there.
    """
    _check(job)

    return written_beside(
        job.out,
        lambda folder, report: _export(job, folder, report),
        on_progress=on_progress,
        cancelled=cancelled,
    )


def written_beside(
    out: Path,
    write: Callable[[Path, OnProgress], T],
    *,
    on_progress: OnProgress,
    cancelled: Callable[[], bool],
) -> T:
    """What `write` returns, which fills a folder beside `out` that gets its name at the end.

    Raises `ExportCancelledError` where progress is reported after `cancelled`, and `StorageError`.
    """

    def report(stage: Stage, done: int, total: int) -> None:
        if cancelled():
            raise ExportCancelledError
        on_progress(stage, done, total)

    with contextlib.ExitStack() as stack:
        with writing(out.parent):
            folder = stack.enter_context(beside(out))
        return write(folder, report)


def _export(job: Job, folder: Path, report: OnProgress) -> Exported:
    trust = job.recipe.trust_remote_code
    tokenizer = of_adapter(load_tokenizer(job.model, trust), job.adapter)
    variants = Variants(loading.load(job.model, trust))
    adapted, _ = variants.saved(job.adapter)
    sample = sample_of(job.recipe, job.data, tokenizer, variants, adapted)
    total, steps = _MEASUREMENTS * steps_of(sample), itertools.count(1)

    def on_step() -> None:
        report("measuring", next(steps), total)

    without = measure(variants, BASE, tokenizer, sample, on_step)
    expected = measure(variants, adapted, tokenizer, sample, on_step)
    if job.form in ("mlx", "gguf"):
        del variants, adapted
        mx.clear_cache()
        _write_model(job, folder, tokenizer, report)
        report("loading", 0, 1)
        found = measure(_read_model(job, folder), BASE, tokenizer, sample, on_step)
    else:
        _write_adapter(job, variants, adapted, folder)
        again = _read_adapter(job, variants, adapted, folder)
        found = measure(variants, again, tokenizer, sample, on_step)
    return _finished(job, folder, proof(sample, without, expected, found))


def _write_model(job: Job, folder: Path, tokenizer: Tokenizer, report: OnProgress) -> None:
    def on_progress(done: int, total: int) -> None:
        report("saving", done, total)

    is_gguf = job.form == "gguf"
    quantize = Quantize("none") if is_gguf else job.quantize
    trust = job.recipe.trust_remote_code
    model, config = fused.fused(job.model, job.adapter, quantize, trust_remote_code=trust)
    with writing(folder):
        if not is_gguf:
            fused.write(model, config, job.model, folder, on_progress)
            if (template := kept_template(job.adapter)) is not None:
                fused.write_template(template, folder)
            return
        file = folder / gguf_name(job.out)
        kind = job.quantize.gguf
        gguf_model.write_model(model, config, job.model, tokenizer, file, kind, on_progress)
        (folder / "Modelfile").write_text(f"FROM ./{file.name}\n", "utf-8", "surrogateescape")


def _read_model(job: Job, folder: Path) -> Variants:
    """The exported model, as it computes here."""
    trust = job.recipe.trust_remote_code
    if job.form == "mlx":
        return Variants(loading.load(folder, trust))
    loaded = loading.load(job.model, trust)
    loading.dequantize(loaded.model)
    dtype = getattr(mx, loaded.dtype)
    arrays = gguf_model.read_back(folder / gguf_name(job.out), loaded.config)
    loaded.model.load_weights([(name, each.astype(dtype)) for name, each in arrays.items()])
    return Variants(loaded)


def _write_adapter(job: Job, variants: Variants, adapted: Variant, folder: Path) -> None:
    with writing(folder):
        if (template := kept_template(job.adapter)) is not None:
            (folder / FILE_NAME).write_text(template, "utf-8")
        if job.form == "peft":
            tied = head_is_tied(variants.loaded.model)
            base = _hub_name(job) or job.recipe.model
            more = base_model.carried(weights_file(job.adapter), job.model)
            peft.write(adapted.layers, base, folder, tied=tied, more=more)
            return
        if job.form == "gguf-adapter":
            config = variants.loaded.config
            gguf_model.write_adapter(adapted.layers, config, folder / gguf_name(job.out))
            return
        files = adapter_files(job.adapter)
        assert files.config_file is not None
        shutil.copyfile(files.weights, folder / WEIGHTS_NAME)
        config = without_folders(json.loads(files.config_file.read_text("utf-8")))
        (folder / CONFIG_NAME).write_text(json.dumps(config, indent=2) + "\n", "utf-8")


def _read_adapter(job: Job, variants: Variants, adapted: Variant, folder: Path) -> Variant:
    """The exported adapter on the model in memory."""
    if job.form != "gguf-adapter":
        return variants.saved(folder)[0]
    arrays = gguf_model.read_adapter(folder / gguf_name(job.out), variants.loaded.config)
    for name, layer in adapted.layers:
        layer.lora_a = mx.zeros_like(layer.lora_a)
        layer.update({part: arrays[f"{name}.{part}"] for part in ("lora_a", "lora_b")})
    return adapted


def _finished(job: Job, folder: Path, found: Proof) -> Exported:
    exported = Exported(
        form=job.form,
        folder=str(job.out),
        files=(),
        proof=found,
        family=_family(job.model),
        quantize=job.quantize,
    )
    base = demo.DESCRIPTION if job.recipe.model == demo.NAME else ""
    origin = msgspec.structs.replace(
        job.origin, base=base, hub_base=_hub_name(job), data=_fingerprint(job)
    )
    curve = curve_svg(origin.validation)
    with writing(folder):
        (folder / CARD_NAME).write_text(
            model_card(exported, job.recipe, origin), "utf-8", "surrogateescape"
        )
        if curve:
            (folder / CURVE_NAME).write_text(curve, "utf-8")
        # Without this machine's path, since the folder may be uploaded.
        report = msgspec.structs.replace(exported, folder=job.out.name)
        (folder / REPORT_NAME).write_bytes(path_json.indented(report))
        files = sorted(each for each in folder.iterdir() if each.is_file())
        sizes = tuple((each.name, each.stat().st_size) for each in files)
        folder.rename(job.out)
    return msgspec.structs.replace(exported, files=sizes)


def _family(model: Path) -> str:
    return str(_config(model).get("model_type", ""))


def _config(model: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((model / "config.json").read_text(encoding="utf-8"))
    return config


def _hub_name(job: Job) -> str:
    """The hub's name of a base model whose name in the recipe only leads to it here; or empty."""
    if job.recipe.model == demo.NAME:
        return demo.HUB_ID
    if not Path(job.recipe.model).is_dir():
        return ""
    named = _config(job.model).get("_name_or_path")
    return named if isinstance(named, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", named) else ""


def _fingerprint(job: Job) -> str:
    """The training data's fingerprint; empty where there is none."""
    return "" if job.data is None else fingerprint(split_file(job.data, "train"))


# The place


def _check(job: Job) -> None:
    out, name = job.out, job.quantize.name
    if not job.quantize.suits(job.form):
        choices = {"mlx": ("keep", "none", *BITS, *MODES), "gguf": GGUF_TYPES}.get(job.form, ())
        remedy = f"choose one of {', '.join(choices)}" if choices else "leave it out"
        raise ModelError(f"--quantize {name} is nothing for --to {job.form}; {remedy}.")
    if job.form == "mlx":
        refuse_not_utf8(out)
    refuse_taken(out)
    refuse(job.form, subject_of(job.adapter, job.model))
    if job.form in ("gguf", "gguf-adapter"):
        gguf_model.refuse_unwritten(_config(job.model), job.model, has_tokenizer=job.form == "gguf")
