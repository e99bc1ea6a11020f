"""What is trained: LoRA, DoRA or whole layers. Attaches it to a model, loads and describes it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.nn.layers.embedding import Embedding
from mlx.nn.layers.linear import Linear
from mlx.nn.layers.quantized import QuantizedEmbedding, QuantizedLinear
from mlx_lm.tuner.dora import DoRAEmbedding, DoRALinear
from mlx_lm.tuner.lora import LoRAEmbedding, LoRALinear, LoRASwitchLinear
from mlx_lm.tuner.utils import linear_to_lora_layers

from mlxft import recipe as recipes
from mlxft.adapters.check import Sizes, checked_adapter, refuse_other_model, refuse_other_scale
from mlxft.adapters.files import AdapterFiles
from mlxft.adapters.layers import AdaptedLayer, common_name
from mlxft.compute.arrays import named_arrays, read_arrays
from mlxft.compute.models import embeddings, trained_rows
from mlxft.compute.models.loading import LoadedModel
from mlxft.compute.models.peft_layers import put_on, read_peft, read_whole
from mlxft.compute.models.trained_rows import TrainedRows
from mlxft.compute.tokenization import Tokenizer, first_line
from mlxft.errors import ModelError, RecipeError
from mlxft.recipe import ALL_ROWS, Recipe

_LINEAR = (LoRALinear, LoRASwitchLinear, DoRALinear)
_EMBEDDING = (LoRAEmbedding, DoRAEmbedding)


def attach(loaded: LoadedModel, recipe: Recipe, tokenizer: Tokenizer | None = None) -> None:
    """Freeze the model except for what the recipe trains, initialised from its seed.

    The tokenizer is needed where the recipe names tokens whose rows are trained. Raises
    `RecipeError` if the recipe doesn't fit the model, `ModelError` if no recipe could.
    """
    model = loaded.model
    layers = len(model.layers)
    if recipe.num_layers > layers:
        raise RecipeError(
            f"num_layers is {recipe.num_layers}, but the model has {layers}; "
            f"set it to {layers} or less, or -1 for all."
        )
    model.freeze()
    mx.random.seed(recipe.seed)
    if recipe.fine_tune_type == "full":
        _unfreeze_layers(loaded, recipe.num_layers)
    else:
        if not recipe.lora_parameters.scale:
            raise RecipeError(
                "lora_parameters.scale is 0, so nothing of the adapter is trained; raise it."
            )
        _check_keys(model, recipe.lora_parameters.keys)
        _convert(model, recipe.fine_tune_type, recipe.num_layers, _lora_parameters(recipe))
        _check_dora(model)
    if recipe.train_embeddings:
        _train_embeddings(loaded, recipe, tokenizer)
    if not named_arrays(model.trainable_parameters()):
        if recipe.fine_tune_type != "full" and recipe.lora_parameters.keys is None:
            raise ModelError(
                f"{recipe.model}: no layer of this {loaded.model_type} model can take an adapter "
                "from mlx-lm; choose another model."
            )
        raise RecipeError(
            "num_layers and lora_parameters.keys leave nothing of this model to train; "
            "empty lora_parameters.keys."
        )
    mx.eval(model.parameters())


def compute_dtype(loaded: LoadedModel, recipe: Recipe) -> mx.Dtype | None:
    """The type that trained weights are cast to for computing; None if they keep their own.

    DoRA magnitudes do: their changes are smaller than a bfloat16 can resolve.
    """
    if recipe.fine_tune_type != "lora":
        return None
    dtype: mx.Dtype = getattr(mx, loaded.dtype)
    return dtype


def start_from(model: Any, adapter: Path, recipe: Recipe) -> None:
    """Replace the initial weights by saved ones, of a run, of mlx_lm or of PEFT.

    `adapter` is a safetensors file or a folder with one. Raises `ModelError` unless all weights
    fit, `RecipeError` if they were trained at another scale.
    """
    files, layers = checked_adapter(adapter, needs_config=False)
    if recipe.fine_tune_type != "full":
        refuse_other_model(files, layers, _sizes(model))
        refuse_other_scale(recipe, files, layers)
    found = dict(_arrays(model, files, layers))
    trained = named_arrays(model.trainable_parameters())
    for name, tokens in trained_rows.token_arrays(model).items():
        if not mx.array_equal(found.pop(name, tokens), tokens):
            raise ModelError(
                f"{files.weights}: its rows are those of other tokens; set train_embeddings to "
                "those that it was trained with."
            )
    if (misfit := _misfit(found, trained, complete=True)) is not None:
        raise ModelError(
            f"{files.weights}: these weights don't fit this recipe (see {misfit}); "
            f"{_needed(model, layers)}."
        )
    model.load_weights(_cast(found, trained), strict=False)
    mx.eval(model.trainable_parameters())


def load_saved(loaded: LoadedModel, adapter: Path, *, lazy: bool = False) -> frozenset[str]:
    """Load a saved adapter onto a model without one; returns the names of its parameters.

    `adapter` is its folder, or a safetensors file in it; `lazy` leaves the model's weights on disk
    until they are used. Raises `ModelError`.
    """
    files, layers = checked_adapter(adapter)
    model = loaded.model
    refuse_other_model(files, layers, _sizes(model))
    if files.is_peft:
        whole = read_whole(model, files)
        found = dict(put_on(model, read_peft(model, files, layers)))
        found |= _with_rows(model, files, whole)
        _check_dora(model)
    else:
        _attach_as_configured(model, files)
        found = _with_rows(model, files, _arrays(model, files, layers))
    parameters = named_arrays(model.parameters())
    if files.kind != "full":
        parameters = {name: each for name, each in parameters.items() if _is_adapter_name(name)}
    if (misfit := _misfit(found, parameters, complete=False)) is not None:
        named = f", {files.model}" if files.model else ""
        raise ModelError(
            f"{files.weights}: these weights don't fit this model (see {misfit}); choose the model "
            f"that they were trained on{named}."
        )
    model.load_weights(_cast(found, parameters), strict=False)
    model.eval()
    if not lazy:
        mx.eval(model.parameters())
    return frozenset(found)


def _with_rows(
    model: Any, files: AdapterFiles, found: Mapping[str, mx.array]
) -> dict[str, mx.array]:
    """The arrays to load, with layers on the model for rows of its embedding among them."""
    try:
        return trained_rows.put_saved(model, found)
    except LookupError as error:
        raise ModelError(
            f"{files.weights}: this model has no place for {error.args[0]}; choose the model that "
            "it was trained on."
        ) from None


def _attach_as_configured(model: Any, files: AdapterFiles) -> None:
    """Put the layers on the model that an adapter_config.json of mlx-lm describes."""
    if files.kind == "full":
        return
    try:
        shape = {"dropout": 0.0, **files.config["lora_parameters"]}
        _convert(model, files.kind, files.config["num_layers"], shape)
    except (KeyError, TypeError, RecipeError) as error:
        raise ModelError(
            f"{files.config_file}: this adapter doesn't fit the model ({error}); "
            "choose the model that it was trained on."
        ) from error


def config(recipe: Recipe, folder: Path) -> bytes:
    """The contents of adapter_config.json, from which mlx_lm recreates the adapter."""
    mapping = {**recipes.to_mlx_lm(recipe), "adapter_path": str(folder)}
    return json.dumps(mapping, indent=2, sort_keys=True).encode()


def saved_arrays(model: Any) -> dict[str, mx.array]:
    """What an adapter's file holds: the trained arrays, and the tokens of trained rows."""
    return {
        **named_arrays(model.trainable_parameters()),
        **trained_rows.token_arrays(model),
    }


def mlx_lm_refuses(recipe: Recipe) -> bool:
    """Whether mlx-lm has no layers for what an adapter of this recipe holds."""
    return bool(recipe.train_embeddings) and recipe.fine_tune_type != "full"


def adapted(model: Any) -> list[tuple[str, Any]]:
    """The model's layers with LoRA, DoRA or trained rows, with their names."""
    return [(name, module) for name, module in model.named_modules() if _is_adapter(module)]


def base_of(module: Any) -> Any:
    """The layer wrapped by a LoRA or DoRA layer, not a copy."""
    return module["linear"] if "linear" in module else module["embedding"]


def _unfreeze_layers(loaded: LoadedModel, num_layers: int) -> None:
    if loaded.is_quantized:
        raise RecipeError(
            "fine_tune_type full can't train quantized weights; "
            "set it to lora or dora, or choose a model that is not quantized."
        )
    for layer in loaded.model.layers[-max(num_layers, 0) :]:
        layer.unfreeze()


def _train_embeddings(loaded: LoadedModel, recipe: Recipe, tokenizer: Tokenizer | None) -> None:
    """Let the embedding and the head be trained, all of them or the rows of some tokens."""
    model, wanted = loaded.model, recipe.train_embeddings
    found = [each for each in (embeddings.token_embedding(model), embeddings.head(model)) if each]
    if not found:
        raise RecipeError(
            f"train_embeddings is {', '.join(wanted or ())}, but this {loaded.model_type} model "
            "has no embedding layer; empty it."
        )
    adapted_too = [name for name, module in found if _is_adapter(module)]
    if adapted_too:
        raise RecipeError(
            f"lora_parameters.keys has {adapted_too[0]}, which train_embeddings trains; leave one "
            "of them out."
        )
    if recipe.fine_tune_type != "full":
        tokens = None if wanted == ALL_ROWS else _token_ids(recipe, tokenizer)
        trained_rows.put_on(model, [name for name, _ in found], tokens)
        return
    if wanted != ALL_ROWS:
        raise RecipeError(
            "train_embeddings names tokens, but fine_tune_type full trains whole layers; set it to "
            "all, or fine_tune_type to lora."
        )
    for _, module in found:
        module.unfreeze()


def _token_ids(recipe: Recipe, tokenizer: Tokenizer | None) -> list[int]:
    """The tokens whose rows are trained. Raises `RecipeError` for text that is no token."""
    assert tokenizer is not None
    vocabulary = tokenizer.get_vocab()
    names = recipe.train_embeddings or ()
    for name in names:
        if name not in vocabulary:
            count = len(tokenizer.encode(name, add_special_tokens=False))
            raise RecipeError(
                f"train_embeddings has {name}, which is no token of this model but {count}; name "
                "tokens as its tokenizer.json has them, or all."
            )
    return sorted({vocabulary[name] for name in names})


def _lora_parameters(recipe: Recipe) -> dict[str, Any]:
    mapping: dict[str, Any] = recipes.to_mlx_lm(recipe)["lora_parameters"]
    return mapping


def _convert(model: Any, kind: str, num_layers: int, parameters: dict[str, Any]) -> None:
    try:
        linear_to_lora_layers(model, num_layers, parameters, use_dora=kind == "dora")
    except ValueError as error:
        raise RecipeError(
            f"fine_tune_type {kind} can't be put on this model ({first_line(error)}); "
            "choose other lora_parameters.keys."
        ) from error


def _check_dora(model: Any) -> None:
    """Refuse DoRA on quantized layers that mlx-lm's would fail on in the first step."""
    for name, layer in adapted(model):
        bits = getattr(base_of(layer), "bits", None)
        if bits is None or not isinstance(layer, DoRALinear | DoRAEmbedding):
            continue
        if isinstance(layer, DoRAEmbedding) or 32 % bits:
            kind = (
                "quantized embedding" if isinstance(layer, DoRAEmbedding) else f"{bits}-bit layer"
            )
            raise RecipeError(
                f"fine_tune_type dora can't train the {kind} {name}; set it to lora, or leave that "
                "layer out of lora_parameters.keys."
            )


def _check_keys(model: Any, keys: tuple[str, ...] | None) -> None:
    """Refuse a key that names no layer, listing those there are."""
    if keys is None:
        return
    inner = {name for layer in model.layers for name, _ in layer.named_modules() if name}
    known = inner | {name for name, _ in model.named_modules()}
    for key in keys:
        if key not in known:
            leaves = sorted(name for name in inner if name.endswith("_proj")) or sorted(inner)
            raise RecipeError(
                f"lora_parameters.keys has {key}, which this model doesn't have; "
                f"it has {', '.join(leaves[:12])}."
            )


def _is_adapter(module: Any) -> bool:
    return isinstance(module, (*_LINEAR, *_EMBEDDING, TrainedRows)) or (
        # A model may have its own LoRA layers; they name the base layer alike.
        "lora_a" in module and ("linear" in module or "embedding" in module)
    )


def _is_adapter_name(name: str) -> bool:
    """Whether an adapter file can contain a parameter of this name."""
    return name.rpartition(".")[2] in ("lora_a", "lora_b", "m", trained_rows.ROWS)


def _arrays(model: Any, files: AdapterFiles, layers: Sequence[AdaptedLayer]) -> dict[str, mx.array]:
    """An adapter's arrays under mlx-lm's names."""
    if files.is_peft:
        return dict(array for each in read_peft(model, files, layers) for array in each.arrays)
    try:
        return read_arrays(files.weights)
    except (RuntimeError, ValueError, OSError) as error:
        raise ModelError(
            f"{files.weights}: the adapter can't be read ({first_line(error)}); choose another one."
        ) from error


def _misfit(
    found: Mapping[str, mx.array], expected: Mapping[str, mx.array], *, complete: bool
) -> str | None:
    """The first array that has no place or another shape, or is missing from a complete adapter."""
    for name, array in found.items():
        if name not in expected or array.shape != expected[name].shape:
            return name
    return next((name for name in expected if complete and name not in found), None)


def _cast(
    found: Mapping[str, mx.array], replaced: Mapping[str, mx.array]
) -> list[tuple[str, mx.array]]:
    """The arrays in the types of those they replace."""
    return [(name, array.astype(replaced[name].dtype)) for name, array in found.items()]


def _needed(model: Any, layers: Sequence[AdaptedLayer]) -> str:
    """The recipe that an adapter's weights fit, as a clause."""
    blocks = [each.block for each in layers if each.block is not None]
    if not layers or not blocks:
        return "model, fine_tune_type and num_layers must be those they were trained with"
    keys = sorted({each.name.partition(f"layers.{each.block}.")[2] or each.name for each in layers})
    ranks = " and ".join(str(rank) for rank in sorted({each.rank for each in layers}))
    return (
        f"they need fine_tune_type {'dora' if layers[0].m else 'lora'}, rank {ranks}, num_layers "
        f"{len(model.layers) - min(blocks)} and lora_parameters.keys {', '.join(keys)}"
    )


def _sizes(model: Any) -> dict[str, Sizes]:
    """The sizes of a model's layers by common name, whether or not they have adapters."""
    found: dict[str, Sizes] = {}
    for name, module in model.named_modules():
        inner = base_of(module) if _is_adapter(module) else module
        if isinstance(inner, Linear | QuantizedLinear | Embedding | QuantizedEmbedding):
            rows, columns = inner.weight.shape
            if "scales" in inner:
                columns = columns * 32 // inner.bits
            is_embedding = isinstance(inner, Embedding | QuantizedEmbedding)
            found[common_name(name)] = (rows, columns) if is_embedding else (columns, rows)
    return found
