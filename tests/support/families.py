"""What can be done with each model family, measured on tiny models: ``docs/families.json``.

``python -m support.families`` in `tests` writes it again.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import mlx.core as mx
from mlx.nn.layers.quantized import quantize
from mlx.utils import tree_flatten, tree_map
from mlx_lm.utils import _get_classes

from mlxft.compute.models import adapters
from mlxft.compute.models.loading import LoadedModel
from mlxft.compute.training import operations, packing
from mlxft.compute.training.loss import Loss
from mlxft.compute.training.start_checks import Verified, own_code, verified
from mlxft.errors import ModelError
from mlxft.memory.shapes import ModelShapes
from mlxft.recipe import Recipe, apply_settings
from support.architectures import VOCABULARY
from support.models import make_tiny_model
from support.more_architectures import FAMILIES, config_of

TABLE: Final = Path(__file__).parents[2] / "docs" / "families.json"

GROUP_SIZE: Final = 32

PACKED_WIDTH: Final = 97
"""Tokens of a packed row, beyond every window, chunk and threshold of the tiny models."""

KEYS: Final = {
    # They read the weights of other layers, which mlx_lm's LoRA layers don't have.
    "gemma3n": "self_attn.q_proj,self_attn.k_proj,self_attn.v_proj,mlp.down_proj",
    "kimi_k3": "self_attn.q_a_proj,self_attn.q_b_proj,self_attn.o_proj",
}
"""The layers to train in families where not all can be."""

WITH_KEYS: Final = "Only with lora_parameters.keys, such as"


def make_model(family: str, bits: int | None = None, vocabulary: int = VOCABULARY) -> Any:
    """A model with random weights, including norms, biases and sinks, which start at 0 or 1."""
    config = config_of(family, vocabulary)
    model_class, arguments = _get_classes(config)
    mx.random.seed(7)
    model = model_class(arguments.from_dict(config))
    model.update(
        tree_map(
            lambda array: (
                array + 0.05 * mx.random.normal(array.shape, array.dtype)
                if mx.issubdtype(array.dtype, mx.floating)
                else array
            ),
            model.parameters(),
        )
    )
    if bits is not None:
        quantize(model, GROUP_SIZE, bits, class_predicate=_fits_groups)
    mx.eval(model.parameters())
    return model


def _fits_groups(_: str, module: Any) -> bool:
    return hasattr(module, "to_quantized") and module.weight.shape[-1] % GROUP_SIZE == 0


def make_family(folder: Path, family: str) -> Path:
    """A model folder of a family, with the tiny tokenizer and random weights."""
    make_tiny_model(folder)
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    model = make_model(family, vocabulary=vocabulary)
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(model.parameters())))
    (folder / "config.json").write_text(json.dumps(config_of(family, vocabulary)))
    return folder


def attached(model: Any, recipe: Recipe) -> Any:
    """The model with the recipe's adapter."""
    with own_code("the model", model):
        adapters.attach(LoadedModel(model, {"model_type": model.model_type}, "", "", 0), recipe)
    return model


def lora_recipe(family: str, *settings: str) -> Recipe:
    """LoRA on all blocks, on the family's own layers if not all can be trained."""
    keys = [f"keys={KEYS[family]}"] if family in KEYS else []
    return apply_settings(Recipe(model="the model"), ["num_layers=-1", "rank=4", *keys, *settings])


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A family's tiny model with its adapter, and its row of the table.

    Without `checked` it can't be trained.
    """

    row: dict[str, Any]
    model: Any = None
    checked: Verified | None = None


def tried(family: str) -> Tried:
    """Make a family's model, and find out how it can be trained."""
    known = ModelShapes.from_config(config_of(family)).known_family
    row: dict[str, Any] = {"estimate": "known" if known else "guess"}
    try:
        model = attached(make_model(family), lora_recipe(family))
        checked = verified(model, "the model", grad_checkpoint=True)
    except ModelError as error:
        return Tried(row={**row, "trains": False, "notes": [_first_clause(str(error))]})
    keys = [f"{WITH_KEYS} {KEYS[family]}"] if family in KEYS else []
    cached = ["Trained with caches, as it answers"] if checked.loss.with_cache else []
    row |= {
        "trains": True,
        "checkpointing": checked.grad_checkpoint,
        "packing": packing_of(model, checked.loss),
        "notes": [*keys, *cached, *map(_first_clause, checked.warnings)],
    }
    return Tried(row=row, model=model, checked=checked)


def packing_of(model: Any, loss: Loss) -> str:
    """Whether packed rows can be trained: yes, no, or one row at a time."""
    with operations.replaced():
        for rows, answer in ((2, "yes"), (1, "one row")):
            if packing.refusal(model, loss, "float32", rows, width=PACKED_WIDTH) is None:
                return answer
    return "no"


def _first_clause(sentence: str) -> str:
    return sentence.removeprefix("the model: ").partition(";")[0]


@cache
def table() -> dict[str, dict[str, Any]]:
    """The rows as written, by family."""
    rows: dict[str, dict[str, Any]] = json.loads(TABLE.read_text(encoding="utf-8"))
    return rows


if __name__ == "__main__":
    wanted = sys.argv[1:] or FAMILIES
    found = {family: tried(family).row for family in sorted(wanted, key=str.lower)}
    lines = [f"{json.dumps(family)}: {json.dumps(row)}" for family, row in found.items()]
    TABLE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
