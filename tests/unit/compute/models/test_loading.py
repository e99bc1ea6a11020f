"""Models are found, downloaded and loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx_lm
import pytest
from mlx_lm.models.mla import MultiLinear
from mlx_lm.models.switch_layers import SwitchLinear
from mlx_lm.utils import quantize_model, save_model

from mlxft.compute import backend
from mlxft.compute.models import loading
from mlxft.compute.tokenization import load_tokenizer
from mlxft.errors import MlxftError, ModelError
from mlxft.runs.events import BackendReady
from support.models import make_tiny_model


def refusal(model: str | Path) -> str:
    with pytest.raises(MlxftError) as caught:
        loading.locate(str(model), lambda _: None)
    return str(caught.value)


class TestLocate:
    def test_a_folder_is_itself(self, tiny_model: Path) -> None:
        assert loading.locate(str(tiny_model), lambda _: None) == tiny_model

    def test_a_relative_folder_becomes_absolute(
        self, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tiny_model.parent)
        assert loading.locate(tiny_model.name, lambda _: None) == tiny_model

    def test_no_model_is_one_sentence(self) -> None:
        assert refusal(" ").startswith("No model is chosen;")

    def test_a_missing_folder_is_one_sentence(self) -> None:
        assert "this folder doesn't exist" in refusal("./no/such/folder")
        assert "this file doesn't exist" in refusal("./no/such/file.gguf")

    def test_a_file_is_one_sentence(self, tiny_model: Path) -> None:
        assert "this is a file" in refusal(tiny_model / "config.json")

    @pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
    def test_missing_files_are_named(self, tmp_path: Path, name: str) -> None:
        folder = make_tiny_model(tmp_path / "part")
        (folder / name).unlink()
        said = refusal(folder)
        assert "this is not an MLX model folder" in said
        assert name.removeprefix("model.") in said

    @pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}'])
    def test_a_configuration_of_something_else_is_one_sentence(
        self, tmp_path: Path, text: str
    ) -> None:
        folder = make_tiny_model(tmp_path / "odd")
        (folder / "config.json").write_text(text)
        assert "has no model_type" in refusal(folder)


class TestHub:
    def test_an_id_is_downloaded(self, monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> None:
        asked: list[str] = []

        def download(name: str, _: object) -> Path:
            asked.append(name)
            return tiny_model

        monkeypatch.setattr(loading, "download", download)
        assert loading.locate("org/tiny-4bit", lambda _: None) == tiny_model
        assert asked == ["org/tiny-4bit"]


class TestLoad:
    def test_weights_are_float32_on_a_cpu(self, tmp_path: Path) -> None:
        folder = make_tiny_model(tmp_path / "half")
        weights = mx.load(str(folder / "model.safetensors"))
        assert isinstance(weights, dict)
        halves = {name: array.astype(mx.float16) for name, array in weights.items()}
        mx.save_safetensors(str(folder / "model.safetensors"), halves)
        loaded = loading.load(folder)
        if backend.kind() == "cpu":
            assert loaded.dtype == "float32"
        assert loaded.quantization == "none"
        assert (loaded.context_length, loaded.total_parameters) == (512, 38112)

    def test_a_quantized_model_is_dequantized_on_a_cpu(
        self, tiny_model: Path, tmp_path: Path
    ) -> None:
        model, _, config = mlx_lm.load(str(tiny_model), return_config=True)
        model, config = quantize_model(model, config, group_size=32, bits=4)
        folder = make_tiny_model(tmp_path / "quantized")
        save_model(folder, model)
        (folder / "config.json").write_text(json.dumps(config))
        loaded = loading.load(folder)
        assert loaded.quantization.startswith("4-bit, groups of 32")
        if backend.kind() == "cpu":
            assert loaded.quantization.endswith("dequantized for the CPU")
            assert not loaded.is_quantized

    def test_the_label_of_mixed_bits_names_all_of_them(
        self, tiny_model: Path, tmp_path: Path
    ) -> None:
        model, _, config = mlx_lm.load(str(tiny_model), return_config=True)

        def chosen(path: str, module: nn.Module) -> Any:
            if not hasattr(module, "to_quantized") or path.endswith("embed_tokens"):
                return False
            high = path.endswith("down_proj") and {"group_size": 64, "bits": 6}
            return high or {"group_size": 32, "bits": 2}

        model, config = quantize_model(model, config, 32, 4, quant_predicate=chosen)
        folder = make_tiny_model(tmp_path / "mixed")
        save_model(folder, model)
        (folder / "config.json").write_text(json.dumps(config))
        label = "2- and 6-bit, groups of 32 and 64, 27.0% of the weights unquantized"
        assert loading.load(folder).quantization.startswith(label)

    def test_packed_heads_and_scaled_experts_are_dequantized_on_a_cpu(
        self, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if backend.kind() != "cpu":
            pytest.skip("a GPU keeps them packed")
        heads, experts = MultiLinear(64, 32, 2), SwitchLinear(64, 32, 3)
        model = nn.Module()
        model.heads = heads.to_quantized(32, 8)
        model.experts = experts.to_quantized(16, 4, "nvfp4", global_scale=True)
        model.experts.bias = mx.ones((3, 32))
        monkeypatch.setattr(loading, "load_model", lambda *_, **__: (model, {}))
        loaded = loading.load(tiny_model)
        assert not loaded.is_quantized
        assert mx.allclose(model.heads.weight, heads.weight, atol=1e-3)
        assert mx.allclose(model.experts.weight, experts.weight, atol=0.03)
        assert mx.all(model.experts.bias == 1)

    def test_an_unsupported_model_is_one_sentence(self, tmp_path: Path) -> None:
        folder = make_tiny_model(tmp_path / "new", model_type="unheard_of")
        with pytest.raises(ModelError, match=r"can't be loaded \(Model type unheard_of"):
            loading.load(folder)

    def test_code_that_ends_the_process_is_one_sentence(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """mlx-lm's olmo exits in its import unless another package is installed."""
        monkeypatch.setitem(sys.modules, "hf_olmo", None)
        folder = make_tiny_model(tmp_path / "old", model_type="olmo")
        with pytest.raises(ModelError, match=r"ends the process \(To run olmo install ai2-olmo"):
            loading.load(folder)

    def test_a_configuration_that_transformers_refuses_is_named(self, tmp_path: Path) -> None:
        folder = make_tiny_model(tmp_path, model_type="gemma2", query_pre_attn_scalar=24.0)
        with pytest.raises(ModelError) as refused:
            load_tokenizer(folder, trust_remote_code=False)
        assert str(refused.value).startswith(f"{folder / 'config.json'}: transformers rejects it (")
        assert "'query_pre_attn_scalar' expected int, got float" in str(refused.value)

    def test_a_truncated_tokenizer_is_not_blamed_on_the_configuration(self, tmp_path: Path) -> None:
        folder = make_tiny_model(tmp_path)
        (folder / "tokenizer.json").write_text("{")
        with pytest.raises(ModelError, match="the tokenizer can't be loaded"):
            load_tokenizer(folder, trust_remote_code=False)

    def test_truncated_weights_are_one_sentence(self, tmp_path: Path) -> None:
        folder = make_tiny_model(tmp_path / "torn")
        data = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
        with pytest.raises(ModelError, match="the model can't be loaded"):
            loading.load(folder)


class TestBackend:
    def test_it_names_its_device(self) -> None:
        ready = backend.initialise()
        assert ready.device
        assert ready.kind in ("metal", "cuda", "cpu")
        assert (ready.gflops is not None) == (ready.kind == "cpu")

    def test_a_cpus_speed_is_measured_until_some_products_agree(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        speeds = iter([10.0, 50.0, 49.5, 20.0, 49.0, 50.0, 60.0])
        monkeypatch.setattr(backend, "GFLOPS_SECONDS", 600)
        monkeypatch.setattr(backend, "_gflops_once", lambda *_: next(speeds))
        assert backend._measure_gflops() == 50.0
        assert next(speeds) == 60.0

    def test_a_slow_blas_comes_with_its_fix(self, monkeypatch: pytest.MonkeyPatch) -> None:
        slow = BackendReady(device="x", kind="cpu", blas="reference BLAS", gflops=4.0)
        monkeypatch.setattr(backend, "_packaged_openblas", lambda: ["libopenblas.so"])
        assert "MLXFT_CACHE names it" in str(backend.slow_blas_advice(slow))
        monkeypatch.setattr(backend, "_packaged_openblas", list)
        assert "pip install 'PATH/TO/mlxft-tui[cpu]'" in str(backend.slow_blas_advice(slow))
        fast = BackendReady(device="x", kind="cpu", blas="OpenBLAS", gflops=100.0)
        assert backend.slow_blas_advice(fast) is None
        assert backend.slow_blas_advice(BackendReady(device="x", kind="metal")) is None

    def test_importing_it_keeps_the_limit_on_open_files(self) -> None:
        code = (
            "import resource as r; before = r.getrlimit(r.RLIMIT_NOFILE); import mlxft.compute; "
            "import mlx_lm; assert r.getrlimit(r.RLIMIT_NOFILE) == before"
        )
        core = str(Path(loading.__file__).parents[3])
        environment = {**os.environ, "PYTHONPATH": core}
        subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=60)

    def test_memory_is_counted_in_bytes(self) -> None:
        before = backend.memory().active
        array = mx.zeros(1000)
        mx.eval(array)
        assert backend.memory().active >= before + 4000
