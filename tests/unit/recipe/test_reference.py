"""The reference page of all parameters; tests/docs compares it with docs/recipe.md."""

from mlxft.recipe import PARAMETERS
from mlxft.recipe.reference import reference


def test_it_lists_every_parameter_with_its_help() -> None:
    page = " ".join(reference().split())
    for key, parameter in PARAMETERS.items():
        assert f"### `{key}` {parameter.declared.help}" in page


def test_it_names_the_parameters_that_mlx_lm_does_not_have() -> None:
    own = [key for key, each in PARAMETERS.items() if each.declared.mlx_lm in (None, "always")]
    sentence = " ".join(reference().split()).partition("are mlx-lm's, except for ")[2]
    assert all(f"`{key}`" in sentence.partition(" These ")[0] for key in own)
