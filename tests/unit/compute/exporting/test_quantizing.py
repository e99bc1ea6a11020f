"""Models in fewer bits, with their loss before and after."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlxft.compute.arrays import number
from mlxft.compute.exporting.export import ExportCancelledError
from mlxft.compute.exporting.quantizing import QuantizeJob, quantize
from mlxft.compute.models import loading
from mlxft.compute.tokenization import load_tokenizer
from mlxft.compute.training.batches import tokenize_split
from mlxft.compute.training.loss import plain_loss
from mlxft.data.dataset import load_split
from mlxft.errors import ModelError, StorageError
from mlxft.export.quantization import Quantization, Quantized, expected_size
from mlxft.recipe import Recipe, apply_settings
from support.models import make_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that all modes and groups can quantize."""
    folder = tmp_path_factory.mktemp("wide")
    return make_tiny_model(folder, hidden_size=64, tie_word_embeddings=False)


@pytest.fixture(autouse=True)
def _short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlxft.compute.exporting.proof.ANSWER_TOKENS", 3)


@pytest.fixture
def job(model: Path, tiny_data: Path, tmp_path: Path) -> QuantizeJob:
    recipe = Recipe(model=str(model), data=str(tiny_data))
    out = tmp_path / "out"
    return QuantizeJob(
        model=model, recipe=recipe, data=tiny_data, out=out, quantization=Quantization()
    )


def made(job: QuantizeJob, **wanted: Any) -> Quantized:
    return quantize(
        replace(job, quantization=Quantization(**wanted)),
        on_progress=lambda *_: None,
        cancelled=lambda: False,
    )


def loss_of(folder: Path, recipe: Recipe) -> float:
    """A model's validation loss by the trainer's own formula."""
    recipe = apply_settings(recipe, ("batch_size=1",))
    split = load_split(Path(recipe.data), "valid", recipe.columns)
    tokenized = tokenize_split(load_tokenizer(folder, False), split, recipe, seed=0)
    loaded, total, tokens = loading.load(folder).model, 0.0, 0.0
    for batch in tokenized.plan.epoch(0):
        loss, count = plain_loss(loaded, tokenized.arrays(batch))
        total, tokens = total + number(loss) * number(count), tokens + number(count)
    return total / tokens


def test_both_losses_are_those_of_the_users_records(
    job: QuantizeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlxft.compute.exporting.proof.POSITIONS", 10_000)
    found = made(job, bits=2, group_size=32)
    assert (found.source, found.records) == ("validation", 5)
    assert found.loss_before == pytest.approx(loss_of(job.model, job.recipe), abs=1e-4)
    assert found.loss == pytest.approx(loss_of(job.out, job.recipe), abs=1e-4)
    assert found.loss != pytest.approx(found.loss_before, abs=1e-3)
    card = (job.out / "README.md").read_text()
    assert all(line in card for line in found.lines)


@pytest.mark.parametrize(
    ("wanted", "bits"),
    [
        ({"bits": 5, "group_size": 32}, {5}),
        ({"mode": "mxfp4"}, {4}),
        ({"mode": "nvfp4"}, {4}),
        ({"recipe": "mixed_3_6"}, {3, 6}),
    ],
)
def test_weights_have_the_wanted_bits_and_about_the_announced_size(
    job: QuantizeJob, wanted: dict[str, Any], bits: set[int]
) -> None:
    found = made(job, **wanted)
    model, _ = loading.load_model(job.out, lazy=True)
    assert {each.bits for _, each in model.named_modules() if "scales" in each} == bits
    assert found.size < found.size_before / 2
    assert expected_size(job.model, Quantization(**wanted)) == pytest.approx(found.size, rel=0.25)


def test_a_quantized_model_is_unpacked(job: QuantizeJob, tmp_path: Path) -> None:
    made(job, bits=8)
    again = replace(job, model=job.out, out=tmp_path / "whole")
    found = made(again, dequantize=True)
    assert "quantization" not in json.loads((again.out / "config.json").read_text())
    assert found.largest_difference < 1e-3
    assert found.same_answers == found.answers
    assert found.bits_before < 10 < found.bits


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({"dequantize": True}, "its weights are not quantized"),
        ({"group_size": 128}, "set --group-size to 32"),
    ],
)
def test_what_can_not_be_done_leaves_nothing(
    job: QuantizeJob, wanted: dict[str, Any], says: str
) -> None:
    with pytest.raises(ModelError, match=says):
        made(job, **wanted)
    assert not list(job.out.parent.iterdir())


@pytest.mark.parametrize("at", ["measuring", "saving", "loading"])
def test_nothing_is_left_of_a_cancelled_one(job: QuantizeJob, at: str) -> None:
    stages: list[str] = []
    with pytest.raises(ExportCancelledError):
        quantize(
            job,
            on_progress=lambda stage, *_: stages.append(stage),
            cancelled=lambda: at in stages,
        )
    assert not list(job.out.parent.iterdir())


def test_a_folder_with_files_is_refused(job: QuantizeJob) -> None:
    job.out.mkdir()
    (job.out / "mine").touch()
    with pytest.raises(StorageError, match="choose another --out"):
        made(job)


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({"dequantize": True, "bits": 4}, "leave out the others"),
        ({"recipe": "mixed_2_6", "bits": 4}, "has its own bits"),
        ({"mode": "mxfp8", "bits": 4}, "--mode mxfp8 has 8 bits and groups of 32 only"),
    ],
)
def test_options_that_exclude_each_other_are_refused(wanted: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        Quantization(**wanted).refuse_contradictions()
