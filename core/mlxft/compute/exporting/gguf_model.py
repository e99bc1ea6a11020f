"""A model, or a LoRA adapter alone, as a GGUF file for llama.cpp."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import gguf
import mlx.core as mx
import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, LlamaFileType
from mlx_lm.tuner.lora import LoRALinear

from mlxft.compute.arrays import named_arrays
from mlxft.compute.exporting.gguf_tokenizer import add_tokenizer, read_vocabulary
from mlxft.compute.models.gguf_families import (
    Family,
    Heads,
    Values,
    completed,
    family_of,
    llama3_factors,
)
from mlxft.compute.models.gguf_layout import (
    ROPE_FACTORS,
    names_of_places,
    place_of,
    restored,
    stored,
)
from mlxft.compute.models.gguf_weights import unpacked
from mlxft.compute.tokenization import Tokenizer
from mlxft.errors import ModelError

TYPES: Final[Mapping[str, GGMLQuantizationType]] = {
    "f32": GGMLQuantizationType.F32,
    "f16": GGMLQuantizationType.F16,
    "bf16": GGMLQuantizationType.BF16,
    "q8_0": GGMLQuantizationType.Q8_0,
    "q5_1": GGMLQuantizationType.Q5_1,
    "q5_0": GGMLQuantizationType.Q5_0,
    "q4_1": GGMLQuantizationType.Q4_1,
    "q4_0": GGMLQuantizationType.Q4_0,
}
"""What the gguf package can write."""

_FILE_TYPES: Final = {
    "f32": LlamaFileType.ALL_F32,
    "f16": LlamaFileType.MOSTLY_F16,
    "bf16": LlamaFileType.MOSTLY_BF16,
    "q8_0": LlamaFileType.MOSTLY_Q8_0,
    "q5_1": LlamaFileType.MOSTLY_Q5_1,
    "q5_0": LlamaFileType.MOSTLY_Q5_0,
    "q4_1": LlamaFileType.MOSTLY_Q4_1,
    "q4_0": LlamaFileType.MOSTLY_Q4_0,
}
_COARSE: Final = ("q5_1", "q5_0", "q4_1", "q4_0")
"""Types too coarse for embedding and head, which are written in 8 bits then."""

_WINDOWED: Final = ("gemma2", "gemma3_text", "phi3")
"""Families whose sliding window llama.cpp reads."""

_WHOLE: Final = ("token_embd.weight", "output.weight")


@dataclass(frozen=True)
class _Tensor:
    """One tensor of the file: its name, type and values as llama.cpp lays them out."""

    name: str
    kind: GGMLQuantizationType
    read: Callable[[], Values]
    shape: tuple[int, ...]

    @property
    def byte_shape(self) -> tuple[int, ...]:
        """The shape of the stored bytes."""
        return gguf.quants.quant_shape_to_byte_shape(self.shape, self.kind)


def refuse_unwritten(config: Mapping[str, Any], folder: Path, *, has_tokenizer: bool) -> None:
    """Raise `ModelError` for a model that isn't written, before its weights are loaded."""
    family_of(config)
    _scaled(config)
    if has_tokenizer:
        read_vocabulary(folder, int(config["vocab_size"]))


def write_model(
    model: Any,
    config: Mapping[str, Any],
    folder: Path,
    tokenizer: Tokenizer,
    file: Path,
    kind: str,
    on_progress: Callable[[int, int], None],
) -> None:
    """Write a model whose weights are not quantized; `folder` holds its tokenizer.

    Raises `ModelError` for what GGUF can't hold.
    """
    family, config = family_of(config), completed(config)
    heads = Heads.of(config)
    arrays = named_arrays(model.parameters())
    vocabulary = read_vocabulary(folder, arrays["model.embed_tokens.weight"].shape[0])
    tensors = [*_tensors(arrays, config, family, heads, kind), *_rope_factors(config, heads)]
    writer = GGUFWriter(file, gguf.MODEL_ARCH_NAMES[family.architecture])
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_file_type(_FILE_TYPES[kind])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _add_shape(writer, config, heads)
    add_tokenizer(writer, vocabulary, tokenizer)
    _write(writer, tensors, on_progress)


def write_adapter(layers: Iterable[tuple[str, Any]], config: Mapping[str, Any], file: Path) -> None:
    """Write a LoRA adapter's layers. Raises `ModelError` for DoRA, embeddings and experts."""
    family, config = family_of(config), completed(config)
    heads = Heads.of(config)
    names = gguf.get_tensor_name_map(family.architecture, int(config["num_hidden_layers"]))
    found = tuple(layers)
    tensors: list[_Tensor] = []
    for name, layer in found:
        if not isinstance(layer, LoRALinear):
            raise ModelError(
                f"{name}: llama.cpp's adapters hold LoRA on linear layers only; export the fused "
                "model with --to gguf."
            )
        place = place_of(f"{name}.weight", names)
        b = _values(layer.lora_b.T)
        b = heads.laid_out(name, b) if family.rotates_pairs else b
        tensors += [
            _plain(f"{place}.lora_a", _values(layer.lora_a.T)),
            _plain(f"{place}.lora_b", b),
        ]
    if not found:
        raise ModelError("A full fine-tune has no adapter; export the model with --to gguf.")
    writer = GGUFWriter(file, gguf.MODEL_ARCH_NAMES[family.architecture])
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    # llama.cpp takes an absent alpha as a scale of 1.
    _, first = found[0]
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, first.lora_a.shape[-1] * float(first.scale))
    _write(writer, tensors, lambda *_: None)


def read_back(file: Path, config: Mapping[str, Any]) -> dict[str, mx.array]:
    """A model file's arrays under mlx-lm's names, in float32 and in mlx-lm's layout."""
    family, config = family_of(config), completed(config)
    heads = Heads.of(config)
    places = names_of_places(family, int(config["num_hidden_layers"]))
    found: dict[str, mx.array] = {}
    for tensor in GGUFReader(file).tensors:
        if tensor.name == ROPE_FACTORS:
            continue
        stem, _, suffix = tensor.name.rpartition(".")
        name = places[stem]
        values = restored(name, unpacked(tensor), family, heads)
        found[f"{name}.{suffix}"] = mx.array(np.ascontiguousarray(values, np.float32))
    return found


def read_adapter(file: Path, config: Mapping[str, Any]) -> dict[str, mx.array]:
    """An adapter file's arrays under mlx-lm's names and in its layout."""
    family, config = family_of(config), completed(config)
    heads = Heads.of(config)
    places = names_of_places(family, int(config["num_hidden_layers"]))
    found: dict[str, mx.array] = {}
    for tensor in GGUFReader(file).tensors:
        place, _, part = tensor.name.rpartition(".")
        name = places[place.removesuffix(".weight")]
        values = np.asarray(tensor.data, np.float32)
        if part == "lora_b" and family.rotates_pairs:
            values = heads.restored(name, values)
        found[f"{name}.{part}"] = mx.array(np.ascontiguousarray(values.T))
    return found


# Layout


def _tensors(
    arrays: Mapping[str, mx.array],
    config: Mapping[str, Any],
    family: Family,
    heads: Heads,
    kind: str,
) -> Iterator[_Tensor]:
    names = gguf.get_tensor_name_map(family.architecture, int(config["num_hidden_layers"]))
    for name, array in arrays.items():
        place, layer = place_of(name, names), name.rpartition(".")[0]

        def read(array: mx.array = array, layer: str = layer) -> Values:
            return stored(layer, _values(array), family, heads)

        yield _Tensor(place, _kind(place, array.shape, kind), read, tuple(array.shape))


def _kind(place: str, shape: tuple[int, ...], kind: str) -> GGMLQuantizationType:
    """Vectors are kept in float32; rows that no block divides in 16 bits."""
    if len(shape) < 2:
        return GGMLQuantizationType.F32
    wanted = TYPES["q8_0" if place in _WHOLE and kind in _COARSE else kind]
    block, _ = gguf.GGML_QUANT_SIZES[wanted]
    return wanted if shape[-1] % block == 0 else GGMLQuantizationType.F16


def _values(array: mx.array) -> Values:
    return np.array(array.astype(mx.float32))


def _plain(name: str, values: Values) -> _Tensor:
    return _Tensor(name, GGMLQuantizationType.F32, lambda: values, values.shape)


# Metadata


def _add_shape(writer: GGUFWriter, config: Mapping[str, Any], heads: Heads) -> None:
    writer.add_block_count(int(config["num_hidden_layers"]))
    writer.add_context_length(int(config.get("max_position_embeddings") or 2048))
    writer.add_embedding_length(int(config["hidden_size"]))
    writer.add_feed_forward_length(int(config["intermediate_size"]))
    writer.add_head_count(heads.queries)
    writer.add_head_count_kv(heads.keys)
    writer.add_key_length(heads.size)
    writer.add_value_length(heads.size)
    rotated = float(config.get("partial_rotary_factor") or 1.0)
    writer.add_rope_dimension_count(int(heads.size * rotated))
    writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
    writer.add_rope_freq_base(float(config.get("rope_theta") or 10000.0))
    writer.add_vocab_size(int(config["vocab_size"]))
    for key, add in (
        ("embedding_multiplier", writer.add_embedding_scale),
        ("residual_multiplier", writer.add_residual_scale),
        ("attention_multiplier", writer.add_attention_scale),
        ("logits_scaling", writer.add_logit_scale),
    ):
        if config.get("model_type") == "granite" and key in config:
            add(float(config[key]))
    if config.get("sliding_window") and config.get("model_type") in _WINDOWED:
        writer.add_sliding_window(int(config["sliding_window"]))
    for key, add in (
        ("attn_logit_softcapping", writer.add_attn_logit_softcapping),
        ("final_logit_softcapping", writer.add_final_logit_softcapping),
    ):
        if config.get("model_type") == "gemma2":
            add(float(config[key]))
    if "num_experts" in config:
        writer.add_expert_count(int(config["num_experts"]))
        writer.add_expert_used_count(int(config["num_experts_per_tok"]))
        writer.add_expert_feed_forward_length(int(config["moe_intermediate_size"]))
    _add_scaling(writer, config)


def _scaling(config: Mapping[str, Any]) -> Mapping[str, Any]:
    found = config.get("rope_scaling") or {}
    return found if isinstance(found, Mapping) else {}


def _scaled(config: Mapping[str, Any]) -> str:
    """How positions are stretched; empty if they aren't. Raises `ModelError` for other ways."""
    scaling = _scaling(config)
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind not in ("default", "llama3", "linear", "yarn"):
        raise ModelError(
            f"rope_scaling is {kind}, which is not written as GGUF; export with --to mlx."
        )
    return "" if kind == "default" else str(kind)


def _add_scaling(writer: GGUFWriter, config: Mapping[str, Any]) -> None:
    """The stretching of positions; Llama 3's is a tensor of its own."""
    scaling = _scaling(config)
    match _scaled(config):
        case "linear":
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        case "yarn":
            writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
            writer.add_rope_scaling_orig_ctx_len(int(scaling["original_max_position_embeddings"]))
        case _:
            return
    writer.add_rope_scaling_factor(float(scaling["factor"]))


def _rope_factors(config: Mapping[str, Any], heads: Heads) -> Iterator[_Tensor]:
    """What Llama 3's scaling divides each frequency by."""
    if _scaled(config) == "llama3":
        base = float(config.get("rope_theta") or 10000.0)
        yield _plain(ROPE_FACTORS, llama3_factors(_scaling(config), base, heads.size))


def _write(
    writer: GGUFWriter, tensors: list[_Tensor], on_progress: Callable[[int, int], None]
) -> None:
    """Write all, one tensor in memory at a time."""
    sizes = [math.prod(each.byte_shape) for each in tensors]
    for tensor, size in zip(tensors, sizes, strict=True):
        stored = np.dtype(np.uint8) if _is_blocks(tensor.kind) else _dtype(tensor.kind)
        shape = tensor.byte_shape if _is_blocks(tensor.kind) else tensor.shape
        writer.add_tensor_info(tensor.name, shape, stored, size, raw_dtype=tensor.kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    done = 0
    for tensor, size in zip(tensors, sizes, strict=True):
        writer.write_tensor_data(gguf.quants.quantize(tensor.read(), tensor.kind))
        done += size
        on_progress(done, sum(sizes))
    writer.close()


def _is_blocks(kind: GGMLQuantizationType) -> bool:
    return kind not in (GGMLQuantizationType.F32, GGMLQuantizationType.F16)


def _dtype(kind: GGMLQuantizationType) -> np.dtype[Any]:
    return np.dtype(np.float32 if kind == GGMLQuantizationType.F32 else np.float16)
