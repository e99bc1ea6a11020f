"""Models with random weights in the shapes of known ones, for benchmarks.

Importing this module doesn't load MLX.
"""

from __future__ import annotations

from typing import Any, Final

_LLAMA: Final[dict[str, Any]] = {
    "model_type": "llama",
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": True,
}


def llama(
    *,
    hidden: int,
    inner: int,
    layers: int,
    heads: int,
    kv: int,
    vocabulary: int,
    head_dim: int | None = None,
) -> dict[str, Any]:
    """The config of a llama; heads share the hidden size unless `head_dim` is given."""
    return {
        **_LLAMA,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "head_dim": head_dim or hidden // heads,
        "vocab_size": vocabulary,
    }


SHAPES: Final[dict[str, dict[str, Any]]] = {
    "tiny": llama(hidden=128, inner=384, layers=2, heads=2, kv=1, vocabulary=1024),
    "small": llama(hidden=128, inner=384, layers=4, heads=2, kv=1, vocabulary=4096),
    "narrow": llama(hidden=256, inner=768, layers=8, heads=8, kv=2, vocabulary=4096),
    "135m": llama(hidden=576, inner=1536, layers=30, heads=9, kv=3, vocabulary=49152),
    "1b": llama(hidden=2048, inner=8192, layers=16, heads=32, kv=8, vocabulary=128256),
    "3b": llama(hidden=3072, inner=8192, layers=28, heads=24, kv=8, vocabulary=128256),
    "head256": llama(
        hidden=2304, inner=9216, layers=26, heads=8, kv=4, vocabulary=256000, head_dim=256
    ),
}
"""Llama 3.2 1B and 3B, SmolLM2 135M, and one with the sizes and heads of Gemma 2 2B."""

GROUP: Final = {"affine": 64, "mxfp4": 32, "nvfp4": 16, "mxfp8": 32}
"""Weights that share a scale, by the kind of quantized weights."""

BITS: Final = {"mxfp4": 4, "nvfp4": 4, "mxfp8": 8}
"""Bits of the kinds that have no other."""


def quantization(bits: int | None, mode: str = "affine") -> dict[str, Any]:
    """The entries of config.json for quantized weights; none for dense ones."""
    bits = BITS.get(mode, bits)
    if bits is None:
        return {}
    described = {"group_size": GROUP[mode], "bits": bits, "mode": mode}
    if mode == "affine":
        described.pop("mode")
    return {"quantization": described, "torch_dtype": "bfloat16"}


def build(config: dict[str, Any], dtype: str, bits: int | None = None, mode: str = "affine") -> Any:
    """A model of a config with random weights, evaluated."""
    import mlx.core as mx
    from mlx.nn.layers.quantized import quantize
    from mlx_lm.utils import _get_classes

    model_class, arguments = _get_classes(config)
    mx.random.seed(0)
    model = model_class(arguments.from_dict(config))
    model.set_dtype(getattr(mx, dtype))
    described = quantization(bits, mode).get("quantization")
    if described:
        quantize(model, **described)
    mx.eval(model.parameters())
    return model


def stepper_of(model: Any, config: dict[str, Any], dtype: str, recipe: Any) -> tuple[Any, Any]:
    """What trains such a model by a recipe as a run does, and its optimizer."""
    from mlxft.compute.models import adapters
    from mlxft.compute.models.loading import LoadedModel
    from mlxft.compute.training import choices, optimizers
    from mlxft.compute.training.loss import chunked_loss
    from mlxft.compute.training.step import Stepper

    loaded = LoadedModel(model, config, "", dtype, 0)
    adapters.attach(loaded, recipe)
    optimizer = optimizers.make_optimizer(recipe)
    optimizer.init(model.trainable_parameters())
    stepper = Stepper(
        model,
        optimizer,
        seed=recipe.seed,
        grad_checkpoint=recipe.grad_checkpoint,
        loss=chunked_loss,
        dtype=adapters.compute_dtype(loaded, recipe),
        max_grad_norm=recipe.max_grad_norm,
        choices=choices.chosen(recipe, loaded),
    )
    return stepper, optimizer
