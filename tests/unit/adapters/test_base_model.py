"""The fingerprint of a model's weights, and what is said of an adapter used with others."""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.utils import quantize_model, save_model
from safetensors.numpy import load_file, save_file

from mlxft.adapters import base_model
from mlxft.adapters.base_model import difference, fingerprint
from mlxft.compute.models import loading
from support.models import make_tiny_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_tiny_model(tmp_path / "model")


@pytest.fixture
def adapter(model: Path, tmp_path: Path) -> Path:
    """An adapter's file that keeps the model's fingerprint."""
    file = tmp_path / "adapters.safetensors"
    save_file({"a": np.zeros(3, np.float32)}, file, metadata=base_model.metadata(model))
    return file


def test_names_and_number_of_files_make_no_difference(model: Path, adapter: Path) -> None:
    before, arrays = fingerprint(model), load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    names = sorted(arrays)
    for number, part in enumerate((names[::2], names[1::2])):
        save_file({name: arrays[name] for name in part}, model / f"model-{number}.safetensors")
    assert fingerprint(model) == before
    assert difference(adapter, model) == ""


def test_weights_that_were_trained_further_are_others(
    model: Path, adapter: Path, tmp_path: Path
) -> None:
    other = make_tiny_model(tmp_path / "further")
    arrays = load_file(model / "model.safetensors")
    save_file(arrays, other / "model.safetensors")
    assert difference(adapter, other) == ""
    again = make_tiny_model(tmp_path / "again")
    arrays["model.layers.1.mlp.up_proj.weight"][40] *= np.float32(1 + 2**-20)
    save_file(arrays, again / "model.safetensors")
    assert difference(adapter, again).startswith("it was trained on other weights than this")


def test_weights_in_another_type_are_said_to_be(model: Path, adapter: Path) -> None:
    loaded = loading.load(model)
    packed, config = quantize_model(loaded.model, loaded.config, 32, 4)
    save_model(model, packed)
    (model / "config.json").write_text(json.dumps(config))
    wanted = "trained on F32 weights and those of this model are 4-bit, groups of 32"
    assert wanted in difference(adapter, model)


def test_an_adapter_of_another_tool_says_nothing(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "adapters.safetensors"
    mx.save_safetensors(str(file), {"a": mx.zeros(3)})
    assert difference(file, model) == ""
    assert fingerprint(tmp_path / "nowhere") is None


def test_samples_are_from_all_over_a_large_tensor(tmp_path: Path) -> None:
    values = np.zeros(1 << 20, np.float32)
    found = set()
    for place in (0, len(values) // 3, 2 * len(values) // 3, len(values) - 1):
        values[place] = 1
        folder = tmp_path / str(place)
        folder.mkdir()
        save_file({"a": values}, folder / "model.safetensors")
        found.add(fingerprint(folder))
    assert len(found) == 4
