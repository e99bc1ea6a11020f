"""Presets, and the mlx_lm command that is equivalent to a recipe."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlx._distributed_utils.common import Hostfile

from mlxft import recipe as recipes
from mlxft.recipe import Recipe
from mlxft.recipe.differences import differences
from mlxft.recipe.mlx_lm_command import command_notes, mlx_lm_command
from mlxft.recipe.presets import PRESETS, Preset, applied

FLAGS = [
    each.mlx_lm_key
    for each in recipes.PARAMETERS.values()
    if each.declared.mlx_lm in ("flag", "switch")
]
MINE = recipes.apply_settings(Recipe(), ["model=demo", "data=lamps", "seed=7", "mask_prompt=yes"])


def mlx_lm_arguments(recipe: Recipe, file: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What ``mlx_lm lora --config FILE`` would train, by mlx_lm's own parser and defaults."""
    from mlx_lm import lora

    recipes.save(recipe, file)
    taken: list[dict[str, Any]] = []
    monkeypatch.setattr(lora, "run", lambda arguments: taken.append(vars(arguments)))
    monkeypatch.setattr("sys.argv", ["mlx_lm.lora", "--config", str(file)])
    lora.main()
    return taken[0]


class TestPresets:
    @pytest.mark.parametrize("preset", PRESETS, ids=lambda each: each.name)
    def test_model_and_data_are_kept(self, preset: Preset) -> None:
        made = applied(preset, MINE)
        kept = recipes.keys_where(lambda each: each.kept_by_presets)
        assert "model" in kept
        assert differences(MINE, made).keys().isdisjoint(kept)

    @pytest.mark.parametrize("preset", PRESETS, ids=lambda each: each.name)
    def test_it_can_be_written_and_read(self, preset: Preset) -> None:
        made = applied(preset, MINE, records=300)
        assert recipes.from_mapping(yaml.safe_load(recipes.dump(made))) == made

    @pytest.mark.parametrize("preset", PRESETS, ids=lambda each: each.name)
    def test_mlx_lm_accepts_its_file(
        self, preset: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = applied(preset, MINE, records=300)
        taken = mlx_lm_arguments(made, tmp_path / "recipe.yaml", monkeypatch)
        assert taken["train"] is True
        for key in FLAGS:
            assert taken[key] == recipes.to_mapping(made)[key], key
        assert taken["lora_parameters"]["rank"] == made.lora_parameters.rank
        if schedule := taken["lr_schedule"]:
            from mlx_lm.tuner.utils import build_schedule

            rate = build_schedule(schedule)
            assert float(rate(schedule["warmup"])) == pytest.approx(made.learning_rate, rel=1e-3)

    def test_parameters_it_does_not_set_get_their_defaults(self) -> None:
        changed = recipes.replace(MINE, "optimizer", "sgd")
        assert applied(PRESETS[0], changed).optimizer == "adam"

    def test_one_layer(self) -> None:
        made = applied(PRESETS[0], MINE, records=10_000)
        assert (made.batch_size, made.iters, made.learning_rate) == (4, 225, 2e-4)
        assert (made.num_layers, made.grad_checkpoint) == (1, True)

    def test_layers_are_capped_by_the_model(self) -> None:
        balanced = next(each for each in PRESETS if each.name == "balanced")
        assert applied(balanced, MINE, blocks=12).num_layers == 12
        assert applied(balanced, MINE, blocks=40).num_layers == 16

    def test_epochs_decide_the_steps_if_the_data_is_known(self) -> None:
        quick = next(each for each in PRESETS if each.name == "quick")
        assert applied(quick, MINE, records=300).iters == 75


class TestMlxLmCommand:
    def parsed(self, command: str) -> dict[str, object]:
        """What mlx_lm's own parser makes of the command, flags before a here-document."""
        from mlx_lm.lora import build_parser

        words = shlex.split(command.partition(" <<")[0])
        return vars(build_parser().parse_args(words[1:]))

    def test_mlx_lm_parses_every_flag(self) -> None:
        wanted = recipes.apply_settings(
            MINE, ["batch_size=3", "learning_rate=2e-4", "grad_checkpoint=yes", "num_layers=-1"]
        )
        found = self.parsed(mlx_lm_command(wanted))
        for key in FLAGS:
            assert found[key] == recipes.to_mapping(wanted)[key], key

    def test_parameters_without_a_flag_are_a_config_on_standard_input(self) -> None:
        wanted = recipes.apply_settings(MINE, ["rank=32", "lr_schedule.name=cosine_decay"])
        command = mlx_lm_command(wanted)
        _, _, rest = command.partition("<<'YAML'\n")
        config = yaml.safe_load(rest.removesuffix("YAML\n"))
        assert config["lora_parameters"]["rank"] == 32
        assert config["lr_schedule"]["name"] == "cosine_decay"
        assert self.parsed(command)["config"] == "/dev/stdin"

    def test_slices_of_a_dataset_are_a_config_too(self) -> None:
        sliced = recipes.replace(MINE, "data", "a/b:c@train[:80%],train[-10%:]")
        command = mlx_lm_command(sliced)
        config = yaml.safe_load(command.partition("<<'YAML'\n")[2].removesuffix("YAML\n"))
        assert config["hf_dataset"] == {
            "path": "a/b",
            "config": {"name": "c"},
            "train_split": "train[:80%]",
            "valid_split": "train[-10%:]",
        }
        assert "--data" not in command
        assert recipes.from_mapping(config).data == sliced.data

    def test_several_ranks_are_started_by_mlx_launch(self) -> None:
        wanted = recipes.apply_settings(MINE, ["hosts=2", "rank=32"])
        config, _, launch = mlx_lm_command(wanted).partition("YAML\nmlx.launch")
        assert yaml.safe_load(config.partition("\n")[2])["lora_parameters"]["rank"] == 32
        assert launch.startswith(" -n 2 -p $((")
        assert " -- mlx_lm.lora --train " in launch
        assert launch.endswith(" --config mlx_lm-config.yaml")

    def test_each_start_of_several_ranks_has_ports_of_its_own(self, tmp_path: Path) -> None:
        """So it meets no rank that an earlier one has left."""
        for name, text in (("mlx.launch", 'echo "$4"'), ("date", 'echo "$SECONDS_NOW"')):
            (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
            (tmp_path / name).chmod(0o700)
        command = mlx_lm_command(recipes.replace(MINE, "hosts", 2))
        ports = [
            subprocess.run(
                ["sh", "-c", command],
                cwd=tmp_path,
                env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "SECONDS_NOW": str(now)},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for now in (1_800_000_000, 1_800_000_007)
        ]
        assert ports == ["20000\n", "20007\n"]

    def test_machines_are_in_a_hostfile_beside_the_command(self, tmp_path: Path) -> None:
        command = mlx_lm_command(recipes.replace(MINE, "hosts", "10.0.0.1, mac-b@10.0.0.2"))
        listed = command.partition("<<'JSON'\n")[2].partition("JSON\n")[0]
        (tmp_path / "hosts.json").write_text(listed)
        hosts = Hostfile.from_file(str(tmp_path / "hosts.json")).hosts
        assert [(each.ssh_hostname, each.ips) for each in hosts] == [
            ("10.0.0.1", ["10.0.0.1"]),
            ("mac-b", ["10.0.0.2"]),
        ]
        assert "mlx.launch --hostfile mlx_lm-hosts.json -p " in command
        assert ' -- "$(command -v mlx_lm.lora)" --train' in command
        mine = recipes.replace(MINE, "hosts", "my hosts.json")
        assert "--hostfile 'my hosts.json' -p " in mlx_lm_command(mine)

    def test_a_batch_that_mlx_lm_cannot_deal_is_noted(self) -> None:
        uneven = recipes.apply_settings(MINE, ["hosts=2", "batch_size=3"])
        assert command_notes(uneven) == ["mlx-lm needs a batch_size that 2 ranks can divide."]
        assert command_notes(recipes.replace(uneven, "batch_size", 4)) == []

    def test_a_path_with_spaces_is_quoted(self) -> None:
        found = self.parsed(mlx_lm_command(recipes.replace(MINE, "data", "my data")))
        assert found["data"] == "my data"
