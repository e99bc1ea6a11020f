"""An adapter that can't be used is refused by name, without MLX."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mlxft.adapters.check import check_start, checked_adapter
from mlxft.errors import ModelError, RecipeError
from mlxft.recipe import Recipe, apply_settings
from support.models import make_tiny_model
from support.peft_files import make_peft_adapter

Change = Callable[[Path], None]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def adapter(tmp_path: Path, model: Path) -> Path:
    return make_peft_adapter(tmp_path / "adapter", model)


def cut(share: float) -> Change:
    def change(file: Path) -> None:
        file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])

    return change


def without(part: str) -> Change:
    def change(file: Path) -> None:
        arrays = load_file(file)
        first = next(name for name in arrays if part in name)
        save_file({name: each for name, each in arrays.items() if name != first}, file)

    return change


def with_value(value: float, dtype: type) -> Change:
    def change(file: Path) -> None:
        arrays = {name: each.astype(dtype) for name, each in load_file(file).items()}
        last = list(arrays)[-1]
        arrays[last][-1, -1] = value
        save_file(arrays, file)

    return change


def renumbered(file: Path) -> None:
    save_file({name.replace(".1.", ".30."): each for name, each in load_file(file).items()}, file)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (cut(0.5), "not a whole safetensors file"),
        (cut(0.01), "not a whole safetensors file"),
        (cut(0), "not a whole safetensors file"),
        (without("lora_B"), "half of this adapter is missing: .* has no lora_b"),
        (without("lora_A"), "half of this adapter is missing: .* has no lora_a"),
        (with_value(np.nan, np.float32), "holds NaN or infinity"),
        (with_value(-np.inf, np.float16), "holds NaN or infinity"),
        (renumbered, r"another model: it has layers\.30\.\S+, this model has 3 blocks"),
    ],
)
def test_damage_is_named(adapter: Path, model: Path, change: Change, says: str) -> None:
    change(adapter / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=says):
        checked_adapter(adapter, model)


def test_bfloat16_is_read_too(tmp_path: Path) -> None:
    values = np.array([0x3F80, 0x7F80], "<u2")
    header = b'{"x.lora_a": {"dtype": "BF16", "shape": [1, 2], "data_offsets": [0, 4]}, '
    header += b'"x.lora_b": {"dtype": "BF16", "shape": [1, 1], "data_offsets": [0, 2]}}'
    file = tmp_path / "adapters.safetensors"
    (tmp_path / "adapter_config.json").write_text("{}")
    file.write_bytes(len(header).to_bytes(8, "little") + header + values.tobytes())
    with pytest.raises(ModelError, match="lora_a holds NaN or infinity"):
        checked_adapter(tmp_path)
    file.write_bytes(file.read_bytes()[:-4] + np.array([0x3F80, 0x7F7F], "<u2").tobytes())
    assert checked_adapter(tmp_path)


def test_other_sizes_are_of_another_model(adapter: Path, model: Path, tmp_path: Path) -> None:
    other = make_tiny_model(tmp_path / "other", hidden_size=48)
    with pytest.raises(ModelError, match=rf"takes 32 values .* 48 .* trained on, {model}"):
        checked_adapter(adapter, other)
    checked_adapter(adapter, model)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (("rank=8", "scale=2"), "rank is 8, but .* has rank 4; set it to 4"),
        (("rank=4", "scale=20"), "scale is 20, but .* was trained at 2; set it to 2"),
    ],
)
def test_a_run_of_another_shape_learns_what_to_set(
    adapter: Path, model: Path, settings: tuple[str, ...], says: str
) -> None:
    recipe = apply_settings(Recipe(model=str(model)), settings)
    with pytest.raises(RecipeError, match=says):
        check_start(recipe, adapter, model)
    check_start(apply_settings(recipe, ("rank=4", "scale=2")), adapter, model)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_folder_that_is_no_adapter(adapter: Path, name: str) -> None:
    (adapter / name).unlink()
    with pytest.raises(ModelError, match="this is not an adapter folder"):
        checked_adapter(adapter)


def test_weights_in_a_pickle_say_how_to_save_them(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(ModelError, match="safe_serialization"):
        checked_adapter(adapter)
