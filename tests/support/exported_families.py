"""What can be exported of each family, measured with tiny random models.

Run as a module, `python -m support.exported_families` in `tests`, it writes docs/exports.json
again.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import mlx.core as mx
from mlx.utils import tree_map
from mlx_lm.tuner.utils import linear_to_lora_layers
from mlx_lm.utils import _get_classes

from mlxft.compute.arrays import named_arrays
from mlxft.compute.exporting import gguf_model, peft
from mlxft.compute.models import adapters, gguf, gguf_families, loading
from mlxft.compute.models.loading import LoadedModel
from mlxft.compute.tokenization import load_tokenizer
from mlxft.errors import ModelError
from mlxft.export.types import GGUF_FAMILIES, PEFT_FAMILIES
from support.architectures import ARCHITECTURES

ROWS_FILE: Final = Path(__file__).parents[2] / "docs" / "exports.json"

FAMILIES: Final = tuple(sorted({*GGUF_FAMILIES, *PEFT_FAMILIES} & ARCHITECTURES.keys()))

PARTICULARS: Final[dict[str, dict[str, Any]]] = {
    "gemma2": {"query_pre_attn_scalar": 32.0, "sliding_window": 128},
    "gemma3_text": {
        "query_pre_attn_scalar": 32.0,
        "sliding_window_pattern": 6,
        "num_hidden_layers": 6,
    },
    "mistral": {"layer_types": None, "sliding_window": None},
    "olmo2": {"head_dim": 16},
    "qwen3_moe": {"decoder_sparse_step": 1},
    "smollm3": {"no_rope_layer_interval": 4},
}
"""What llama.cpp computes of a family."""

ATTENTION: Final = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")


def sized(family: str) -> dict[str, Any]:
    """A family's config with rows for all tokens of the tiny model's tokenizer."""
    return {**ARCHITECTURES[family], "vocab_size": 512, **PARTICULARS.get(family, {})}


def random_model(config: dict[str, Any]) -> Any:
    """A model with random weights, norms and biases, too."""
    model_class, arguments = _get_classes(config)
    mx.random.seed(3)
    model = model_class(arguments.from_dict(config))
    noisy = tree_map(lambda each: each + 0.1 * mx.random.normal(each.shape), model.parameters())
    model.update(noisy)
    return model


def measured(family: str, tiny_model: Path, folder: Path) -> dict[str, str]:
    """What was written and read back as it was."""
    return {
        "gguf": _tried(lambda: _gguf(family, tiny_model, folder)),
        "gguf_import": _tried(lambda: _gguf_import(family, folder)),
        "gguf_adapter": _tried(lambda: _gguf_adapter(family, folder)),
        "peft": _tried(lambda: _peft(family, folder, None)),
        "peft_attention": _tried(lambda: _peft(family, folder, ATTENTION)),
    }


def _tried(write: Callable[[], bool]) -> str:
    """Whether what was written came back as it was; no where it is refused."""
    try:
        return "yes" if write() else "differs"
    except ModelError:
        return "no"


def _gguf(family: str, tiny_model: Path, folder: Path) -> bool:
    config, file = sized(family), folder / "model.gguf"
    model, tokenizer = random_model(config), load_tokenizer(tiny_model, False)
    gguf_model.write_model(model, config, tiny_model, tokenizer, file, "f32", lambda *_: None)
    near = 1e-6 if gguf_families.FAMILIES[family].adds_one else 0.0
    return _same(named_arrays(model.parameters()), gguf_model.read_back(file, config), near)


def _gguf_import(family: str, folder: Path) -> bool:
    """Whether the file that was written comes back as a model that computes the same."""
    file = folder / "model.gguf"
    if not file.is_file():
        raise ModelError("nothing was written")
    gguf.import_model(file, folder / "imported", lambda _: None)
    file.unlink()
    model, again = random_model(sized(family)), loading.load(folder / "imported").model
    shutil.rmtree(folder / "imported")
    tokens = mx.array([[3, 9, 4, 7, 5, 2, 101, 102]])
    near = 1e-6 if gguf_families.FAMILIES[family].adds_one else 0.0
    is_same = _same(named_arrays(model.parameters()), named_arrays(again.parameters()), near)
    return is_same and bool(mx.allclose(model(tokens), again(tokens), 0, 1e-4))


def _adapted(family: str, keys: tuple[str, ...] | None) -> Any:
    model = random_model(sized(family))
    model.freeze()
    shape: dict[str, Any] = {"rank": 4, "scale": 3.0, "dropout": 0.0}
    if keys:
        here = {name for layer in model.layers for name, _ in layer.named_modules()}
        shape["keys"] = [each for each in keys if each in here] or ["self_attn.qkv_proj"]
    linear_to_lora_layers(model, 2, shape)
    for _, layer in adapters.adapted(model):
        layer.lora_b = mx.random.normal(layer.lora_b.shape)
    return model


def _gguf_adapter(family: str, folder: Path) -> bool:
    config, file = sized(family), folder / "adapter.gguf"
    model = _adapted(family, ATTENTION)
    gguf_model.write_adapter(adapters.adapted(model), config, file)
    return _same(
        named_arrays(model.trainable_parameters()), gguf_model.read_adapter(file, config), 0.0
    )


def _peft(family: str, folder: Path, keys: tuple[str, ...] | None) -> bool:
    place = Path(tempfile.mkdtemp(dir=folder))
    model = _adapted(family, keys)
    tied = not any(name.startswith("lm_head") for name in named_arrays(model.parameters()))
    peft.write(adapters.adapted(model), "base", place, tied=tied)
    again = random_model(sized(family))
    adapters.load_saved(LoadedModel(again, sized(family), "", "", 0), place)
    read = {
        f"{name}.{part}": layer[part]
        for name, layer in adapters.adapted(again)
        for part in ("lora_a", "lora_b")
    }
    return _same(named_arrays(model.trainable_parameters()), read, 0.0)


def _same(ours: dict[str, mx.array], theirs: dict[str, mx.array], near: float) -> bool:
    return ours.keys() == theirs.keys() and all(
        mx.allclose(ours[name], theirs[name], 0, near).item() for name in ours
    )


def main() -> None:
    """Measure all and write them down."""
    from support.models import make_tiny_model

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        tiny_model = make_tiny_model(folder / "tiny")
        rows = {family: measured(family, tiny_model, folder) for family in FAMILIES}
    ROWS_FILE.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
