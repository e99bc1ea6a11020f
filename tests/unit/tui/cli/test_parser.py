"""The command line as a user types it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxft.errors import MlxftError
from mlxft.export import quantization
from mlxft.export.types import BITS, GGUF_TYPES, MODES
from mlxft_tui.cli import quantize_options
from mlxft_tui.cli.main import COMMANDS
from mlxft_tui.cli.parser import build, parse
from mlxft_tui.cli.quantize_options import QUANTIZE


@pytest.mark.parametrize(
    "words",
    [
        "recipe.yaml --set iters=2 --set seed=1",
        "--set iters=2 --set seed=1 recipe.yaml",
        "--set iters=2 recipe.yaml --set seed=1",
        "recipe.yaml --set iters=2 seed=1",
        "--set iters=2 seed=1 recipe.yaml",
        "--json --set=iters=2 seed=1 recipe.yaml --detach",
    ],
)
@pytest.mark.parametrize("command", ["train", "estimate"])
def test_settings_are_accepted_in_every_order(command: str, words: str) -> None:
    if command == "estimate":
        words = words.replace(" --detach", "")
    arguments = parse([command, *words.split()])
    assert arguments.recipe == Path("recipe.yaml")
    assert arguments.set == ["iters=2", "seed=1"]


def test_a_setting_without_a_value_is_kept_for_the_recipe_to_reject() -> None:
    assert parse(["train", "recipe.yaml", "--set", "iters"]).set == ["iters"]


def test_a_second_recipe_is_not_a_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["train", "--set", "iters=2", "a.yaml", "b.yaml"])
    assert "unrecognized arguments: b.yaml" in capsys.readouterr().err


def test_a_folder_alone_opens_the_app(tmp_path: Path) -> None:
    arguments = parse([str(tmp_path)])
    assert (arguments.command, arguments.folder) == ("open", tmp_path)


def test_a_misspelt_command_suggests_the_right_one() -> None:
    with pytest.raises(MlxftError, match="did you mean mlxft-tui train"):
        parse(["trian", "recipe.yaml"])


def test_every_command_has_a_function() -> None:
    _, names = build()
    assert set(names) == set(COMMANDS)


def test_every_kind_of_exported_weights_is_a_choice() -> None:
    """The parser lists them itself, since it starts before anything else is imported."""
    assert ("keep", "none", *BITS, *MODES, *GGUF_TYPES) == QUANTIZE


@pytest.mark.parametrize("name", ["BITS", "GROUPS", "MODES", "RECIPES"])
def test_every_quantization_is_a_choice(name: str) -> None:
    assert tuple(getattr(quantization, name)) == getattr(quantize_options, name)
