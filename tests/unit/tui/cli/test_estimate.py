"""``mlxft-tui estimate``: parts and verdict from a config.json alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlxft import recipe as recipes
from mlxft.text import figures
from mlxft_tui.cli.main import main
from support.journal import ended, trained_run, write_run
from support.records import SMOLLM2

LLAMA_3B = {
    "model_type": "llama",
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 28,
    "num_attention_heads": 24,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 128256,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "quantization": {"group_size": 64, "bits": 4},
}

PARTS = ("weights", "adapter", "gradients", "optimizer", "activations", "loss", "cache", "base")


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """A recipe, and a folder with nothing but a config.json."""
    recipe, model = tmp_path / "recipe.yaml", tmp_path / "model"
    recipe.write_text("batch_size: 2\nmax_seq_length: 512\n")
    model.mkdir()
    (model / "config.json").write_text(json.dumps(SMOLLM2))
    return str(recipe), str(model)


class TestEstimateCommand:
    def estimate(
        self, capsys: pytest.CaptureFixture[str], files: tuple[str, str], *more: str
    ) -> tuple[int, dict[str, Any]]:
        recipe, model = files
        status = main(["estimate", recipe, "--model", model, "--json", *more])
        return status, json.loads(capsys.readouterr().out)

    def test_the_parts_add_up_to_the_total(
        self, capsys: pytest.CaptureFixture[str], files: tuple[str, str]
    ) -> None:
        status, found = self.estimate(capsys, files, "--device", "cuda:80GB")
        assert status == 0
        memory = [*PARTS, "total", "limit", "total_if_scores_are_kept", "verdict"]
        assert list(found) == [*memory, "seconds", "seconds_spread"]
        assert sum(found[part] for part in PARTS) == found["total"]
        assert (found["limit"], found["verdict"]) == (80_000_000_000, "fits")

    def test_settings_change_the_estimate(
        self, capsys: pytest.CaptureFixture[str], files: tuple[str, str]
    ) -> None:
        _, small = self.estimate(capsys, files, "--device", "metal:36GB")
        _, large = self.estimate(capsys, files, "--device", "metal:36GB", "--set", "batch_size=8")
        assert large["activations"] > 3 * small["activations"]
        assert large["weights"] == small["weights"]

    @pytest.mark.parametrize(
        ("device", "limit"),
        [("metal:36GB", int(36 * 2**30 * 0.78)), ("cuda:80GB", 80 * 10**9), ("metal", None)],
    )
    def test_a_device_is_a_kind_and_its_memory(
        self,
        capsys: pytest.CaptureFixture[str],
        files: tuple[str, str],
        device: str,
        limit: int | None,
    ) -> None:
        """Metal's limit is a share of the memory."""
        _, found = self.estimate(capsys, files, "--device", device)
        assert found["limit"] == limit
        assert found["verdict"] == ("unknown" if limit is None else "fits")

    def test_a_cpu_computes_in_float32(
        self, capsys: pytest.CaptureFixture[str], files: tuple[str, str]
    ) -> None:
        _, there = self.estimate(capsys, files, "--device", "cpu")
        _, gpu = self.estimate(capsys, files, "--device", "cuda:80GB")
        assert there["weights"] == 2 * gpu["weights"]
        assert there["limit"] > 0

    def test_it_prints_its_confidence(
        self, capsys: pytest.CaptureFixture[str], files: tuple[str, str], tmp_path: Path
    ) -> None:
        recipe, model = files
        assert main(["estimate", recipe, "--model", model, "--device", "metal:36GB"]) == 0
        assert "not measured on Macs yet" in capsys.readouterr().out
        (tmp_path / "model" / "config.json").write_text(
            json.dumps({**SMOLLM2, "model_type": "newcomer"})
        )
        main(["estimate", recipe, "--model", model, "--device", "cpu"])
        said = capsys.readouterr().out
        assert "rough guess" in said
        assert "may fit: nothing is known about this model's family" in said

    def test_on_a_mac_an_uncertain_attention_stands_beside_the_total(
        self, capsys: pytest.CaptureFixture[str], files: tuple[str, str]
    ) -> None:
        """4 rows of 8,192 tokens of a 3B model in 4 bits: one copy of a layer's scores is 13 GB."""
        recipe, model = files
        (Path(model) / "config.json").write_text(json.dumps(LLAMA_3B))
        settings = ("batch_size=4", "max_seq_length=8192", "num_layers=16", "grad_checkpoint=true")
        wanted = ("--set", *settings)
        _, mac = self.estimate(capsys, files, "--device", "metal:36GB", *wanted)
        _, cuda = self.estimate(capsys, files, "--device", "cuda:80GB", *wanted)
        copy = 24 * 4 * 8192 * 8191 * 2
        assert mac["total_if_scores_are_kept"] - mac["total"] > 2 * copy
        assert cuda["total_if_scores_are_kept"] is None
        main(["estimate", recipe, "--model", model, "--device", "metal:36GB", *wanted])
        (line,) = (each for each in capsys.readouterr().out.splitlines() if "attention" in each)
        kept = figures.gigabytes(mac["total_if_scores_are_kept"])
        assert "fused (not measured on Macs yet)" in line
        assert f"{kept} GB if it keeps its scores" in line

    def test_it_prints_its_assumptions(
        self, capsys: pytest.CaptureFixture[str], files: tuple[str, str]
    ) -> None:
        recipe, model = files
        given = ["estimate", recipe, "--model", model, "--device", "cpu"]
        assert main([*given, "--set", "max_seq_length=512"]) == 0
        output = capsys.readouterr().out
        assert "up to 512 tokens (max_seq_length)" in output
        assert "as shown on Train" in output

    def test_a_hub_model_is_read_from_the_hub_cache(
        self,
        capsys: pytest.CaptureFixture[str],
        files: tuple[str, str],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
        snapshot = tmp_path / "hub" / "models--maker--small" / "snapshots" / "abc"
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").write_text(json.dumps(SMOLLM2))
        recipe, _ = files
        assert main(["estimate", recipe, "--set", "model=maker/small", "--device", "cpu"]) == 0
        assert "weights" in capsys.readouterr().out

    def test_a_demo_model_not_yet_imported_is_an_error_with_remedy(
        self,
        capsys: pytest.CaptureFixture[str],
        files: tuple[str, str],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("MLXFT_CACHE", str(tmp_path / "empty"))
        recipe, _ = files
        assert main(["estimate", recipe, "--set", "model=demo"]) == 1
        assert "run mlxft-tui demo once" in capsys.readouterr().err

    def test_a_recipe_that_will_not_fit_exits_with_status_1(
        self, capsys: pytest.CaptureFixture[str], files: tuple[str, str]
    ) -> None:
        recipe, model = files
        given = ["estimate", recipe, "--model", model, "--device", "cuda:1GB"]
        assert main([*given, "--set", "batch_size=64"]) == 1
        assert "will not fit" in capsys.readouterr().out

    def test_a_missing_config_and_an_unknown_device_are_errors(
        self, capsys: pytest.CaptureFixture[str], files: tuple[str, str], tmp_path: Path
    ) -> None:
        recipe, model = files
        assert main(["estimate", recipe, "--model", str(tmp_path)]) == 1
        assert "there is no config.json" in capsys.readouterr().err
        assert main(["estimate", recipe, "--model", model, "--device", "tpu"]) == 1
        assert "tpu" in capsys.readouterr().err


class TestTime:
    def test_it_comes_from_the_projects_runs(
        self, capsys: pytest.CaptureFixture[str], files: tuple[str, str], tmp_path: Path
    ) -> None:
        recipe, model = files
        project = ("estimate", recipe, "--model", model, "--dir", str(tmp_path))
        main([*project])
        assert "time         unknown until a run" in capsys.readouterr().out
        trained = recipes.from_mapping({"model": model, "batch_size": 2, "iters": 40})
        run = write_run(tmp_path / "adapters", trained, [*trained_run(trained, 40), ended(40)])
        main([*project, "--set", "iters=1000"])
        shown = capsys.readouterr().out
        assert f"from {run.name})" in shown
        times: list[float] = []
        for steps in (1000, 2000):
            main([*project, "--set", f"iters={steps}", "val_batches=0", "--json"])
            found = json.loads(capsys.readouterr().out)["seconds"]
            times.append(found)
        assert times == [pytest.approx(times[1] / 2), pytest.approx(2 * times[0])]
        assert times[0] > 0
        main([*project, "--device", "cuda:80GB", "--json"])
        assert json.loads(capsys.readouterr().out)["seconds"] is None
