"""The command ``estimate``: parts and verdict from a config.json alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlxft_tui.cli import main
from scripted import SMOLLM2

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
    def told(
        self, capsys: pytest.CaptureFixture[str], files: tuple[str, str], *more: str
    ) -> tuple[int, dict[str, int]]:
        recipe, model = files
        status = main(["estimate", recipe, "--model", model, "--json", *more])
        return status, json.loads(capsys.readouterr().out)

    def test_the_parts_make_the_total(
        self, capsys: pytest.CaptureFixture[str], files: tuple[str, str]
    ) -> None:
        status, told = self.told(capsys, files, "--device", "cuda:80GB")
        assert status == 0
        assert sum(told[part] for part in PARTS) == told["total"]
        assert (told["limit"], told["verdict"]) == (80_000_000_000, "fits")

    def test_settings_change_it(
        self, capsys: pytest.CaptureFixture[str], files: tuple[str, str]
    ) -> None:
        _, small = self.told(capsys, files, "--device", "metal:36GB")
        _, large = self.told(capsys, files, "--device", "metal:36GB", "--set", "batch_size=8")
        assert large["activations"] > 3 * small["activations"]
        assert large["weights"] == small["weights"]

    def test_what_will_not_fit_is_said_in_words_and_by_the_status(
        self, capsys: pytest.CaptureFixture[str], files: tuple[str, str]
    ) -> None:
        recipe, model = files
        given = ["estimate", recipe, "--model", model, "--device", "cuda:1GB"]
        assert main([*given, "--set", "batch_size=64"]) == 1
        assert "will not fit" in capsys.readouterr().out

    def test_a_folder_without_a_config_and_a_device_unheard_of_are_named(
        self, capsys: pytest.CaptureFixture[str], files: tuple[str, str], tmp_path: Path
    ) -> None:
        recipe, model = files
        assert main(["estimate", recipe, "--model", str(tmp_path)]) == 1
        assert "there is no config.json" in capsys.readouterr().err
        assert main(["estimate", recipe, "--model", model, "--device", "tpu"]) == 1
        assert "tpu" in capsys.readouterr().err
