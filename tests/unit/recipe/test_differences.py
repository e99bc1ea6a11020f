"""How two recipes differ."""

from mlxft import recipe as recipes
from mlxft.recipe import Recipe
from mlxft.recipe.differences import differences


class TestDifferences:
    def test_equal_recipes_have_none(self) -> None:
        assert differences(Recipe(), Recipe()) == {}

    def test_both_values_by_key_in_the_order_of_the_form(self) -> None:
        changed = recipes.apply_settings(Recipe(), ["iters=50", "rank=16", "batch_size=2"])
        assert list(differences(Recipe(), changed).items()) == [
            ("lora_parameters.rank", (8, 16)),
            ("batch_size", (4, 2)),
            ("iters", (1000, 50)),
        ]

    def test_a_missing_section_has_its_defaults(self) -> None:
        scheduled = recipes.replace(Recipe(), "lr_schedule.warmup", 10)
        assert differences(Recipe(), scheduled) == {"lr_schedule.warmup": (0, 10)}
