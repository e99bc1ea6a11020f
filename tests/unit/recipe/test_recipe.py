"""The recipe: declarations, settings, steps, files and schedules."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mlxft import recipe as recipes
from mlxft.errors import RecipeError
from mlxft.recipe import PARAMETERS, LrSchedule, Parameter, Recipe
from mlxft.recipe.declaration import MlxLm


def setting(*settings: str) -> Recipe:
    return recipes.apply_settings(Recipe(), settings)


class TestDeclaration:
    def test_every_parameter_has_a_group_and_help(self) -> None:
        for parameter in PARAMETERS.values():
            assert parameter.declared.group in recipes.GROUPS
            assert parameter.declared.help.endswith("."), parameter.key

    def test_important_parameters_have_all_effects(self) -> None:
        for key in ("batch_size", "num_layers", "lora_parameters.rank", "grad_checkpoint"):
            effect = PARAMETERS[key].declared.effect
            assert [name for name, _ in effect.parts] == ["memory", "speed", "quality"]

    def test_every_default_is_valid(self) -> None:
        for parameter in PARAMETERS.values():
            if parameter.default is not None:
                assert recipes.check(parameter, parameter.default) == parameter.default

    def test_mlx_lm_takes_each_parameter_as_declared(self) -> None:
        from mlx_lm.lora import CONFIG_DEFAULTS, build_parser

        parser = build_parser()
        flags = vars(parser.parse_args([])).keys()

        def taken(parameter: Parameter) -> MlxLm | None:
            if parameter.mlx_lm_key not in flags:
                return "config" if parameter.section in CONFIG_DEFAULTS else None
            try:
                parser.parse_args(["--" + parameter.mlx_lm_key.replace("_", "-")])
            except SystemExit:
                return "flag"
            return "switch"

        declared = {key: each.declared.mlx_lm for key, each in PARAMETERS.items()}
        found = {key: taken(each) for key, each in PARAMETERS.items()}
        assert found == {**declared, "val_at_start": None}


class TestSettings:
    @pytest.mark.parametrize(
        ("text", "key", "value"),
        [
            ("batch_size=2", "batch_size", 2),
            ("iters=1e3", "iters", 1000),
            ("learning_rate=2e-4", "learning_rate", 2e-4),
            ("grad_checkpoint=yes", "grad_checkpoint", True),
            ("rank=16", "lora_parameters.rank", 16),
            (
                "lora_parameters.keys=self_attn.q_proj, mlp.up_proj",
                "lora_parameters.keys",
                ("self_attn.q_proj", "mlp.up_proj"),
            ),
            ("lr_schedule.name=cosine_decay", "lr_schedule.name", "cosine_decay"),
            (
                "optimizer_config={adamw: {weight_decay: 0.1}}",
                "optimizer_config",
                {"adamw": {"weight_decay": 0.1}},
            ),
            ("resume_adapter_file=none", "resume_adapter_file", None),
        ],
    )
    def test_a_setting_is_parsed_as_people_write_it(
        self, text: str, key: str, value: object
    ) -> None:
        assert recipes.get(setting(text), key) == value

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("batch_size=0", "a whole number from 1"),
            ("iters=2.5", "a whole number"),
            ("learning_rate=nan", "a number from 0"),
            ("learning_rate=inf", "a number from 0"),
            ("fine_tune_type=loro", "one of lora, dora, full"),
            ("grad_checkpoint=3", "true or false"),
            ("ierts=5", "did you mean iters?"),
            ("batch_size", "has no ="),
            ("optimizer_config=3", "a mapping"),
            ("data=" + "a" * 300, f"{'a' * 40}…'; it must be text with at most 255 bytes"),
            *(
                (f"run_name={'a' * count}", f"{'a' * 40}…'; it must be at most 100 letters")
                for count in (101, 300)
            ),
            ("model=a\0b", "text"),
            ("data=\ud800", "text"),
            (
                "columns={role: who, content: who}",
                "columns has who for both role and content; change one of them.",
            ),
        ],
    )
    def test_an_invalid_setting_says_what_is_valid(self, text: str, says: str) -> None:
        with pytest.raises(RecipeError) as refused:
            setting(text)
        assert says in str(refused.value)


class TestSteps:
    @pytest.mark.parametrize(
        ("key", "start", "down", "up"),
        [
            ("learning_rate", 2e-4, 1e-4, 5e-4),
            ("learning_rate", 3e-4, 2e-4, 5e-4),
            ("lora_parameters.rank", 8, 4, 16),
            ("lora_parameters.rank", 1, 1, 2),
            ("batch_size", 1, 1, 2),
            ("iters", 1000, 990, 1010),
            ("iters", 5, 1, 10),
            ("num_layers", -1, -1, 0),
            ("lora_parameters.dropout", 0.0, 0.0, 0.05),
        ],
    )
    def test_a_step_follows_the_scale(self, key: str, start: float, down: float, up: float) -> None:
        recipe = recipes.replace(Recipe(), key, start)
        assert recipes.get(recipes.step(recipe, key, -1), key) == pytest.approx(down)
        assert recipes.get(recipes.step(recipe, key, 1), key) == pytest.approx(up)

    def test_choices_wrap_around(self) -> None:
        assert recipes.step(Recipe(), "fine_tune_type", -1).fine_tune_type == "full"

    def test_a_step_never_leaves_the_range(self) -> None:
        for key in PARAMETERS:
            recipe = Recipe()
            for _ in range(60):
                recipe = recipes.step(recipe, key, 1)
            for _ in range(120):
                recipe = recipes.step(recipe, key, -1)


class TestFiles:
    def test_a_saved_recipe_is_loaded_unchanged(self, tmp_path: Path) -> None:
        recipe = setting(
            "model=some/model",
            "rank=16",
            "warmup=5",
            "lr_schedule.name=cosine_decay",
            "learning_rate=1e-5",
            "keys=self_attn.q_proj",
        )
        recipes.save(recipe, tmp_path / "recipe.yaml")
        assert recipes.load(tmp_path / "recipe.yaml") == recipe

    def test_a_constant_rate_with_warmup_is_loaded_unchanged(self, tmp_path: Path) -> None:
        recipe = setting("warmup=5")
        recipes.save(recipe, tmp_path / "recipe.yaml")
        assert recipes.load(tmp_path / "recipe.yaml") == recipe

    def test_mlx_lm_reads_a_saved_rate_as_a_number(self) -> None:
        from mlx_lm.lora import yaml_loader

        mapping = yaml.load(recipes.dump(setting("learning_rate=1e-5")), yaml_loader)
        assert mapping["learning_rate"] == 1e-5
        assert mapping["train"] is True

    def test_mlx_lm_builds_every_schedule_we_write(self) -> None:
        from mlx_lm.tuner.utils import build_schedule

        for name in PARAMETERS["lr_schedule.name"].choices:
            recipe = setting(f"lr_schedule.name={name}", "warmup=3", "learning_rate=1e-3")
            schedule = build_schedule(recipes.to_mapping(recipe)["lr_schedule"])
            assert float(schedule(4)) == pytest.approx(1e-3, rel=0.05), name

    def test_an_mlx_lm_config_is_read(self, tmp_path: Path) -> None:
        config = tmp_path / "lora.yaml"
        config.write_text(
            "model: m\ntrain: true\nlearning_rate: 1e-5\nlr_schedule: null\ntest: false\n"
        )
        recipe = recipes.load(config, ["iters=7"])
        assert (recipe.model, recipe.learning_rate, recipe.iters) == ("m", 1e-5, 7)

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("batchsize: 4", "did you mean batch_size?"),
            ("lora_parameters: {alpha: 16}", "takes rank, scale, use_rslora, dropout, keys"),
            ("lora_parameters: 4", "must be a mapping of keys"),
            ("- a list", "key: value"),
            ("a: [", "line"),
            ("hf_dataset: {path: a/b, train_split: 'odd[:9]'}", "has train_split odd[:9]"),
            ("hf_dataset: {path: b}", "is not owner/name on the Hub"),
            ("hf_dataset: [{path: x}, {path: y}]", "must be one mapping"),
            ("test: true", "mlxft-tui evaluate"),
        ],
    )
    def test_an_error_names_the_file(self, tmp_path: Path, text: str, says: str) -> None:
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        with pytest.raises(RecipeError) as refused:
            recipes.load(path)
        assert says in str(refused.value)
        assert str(path) in str(refused.value)

    def test_an_adapter_path_of_mlx_lm_is_known_as_another_folder(self, tmp_path: Path) -> None:
        file = tmp_path / "recipe.yaml"
        file.write_text("adapter_path: adapters/mine\n")
        (note,) = recipes.differences_from_mlx_lm(file, tmp_path / "adapters")
        assert note.startswith("adapter_path adapters/mine isn't used; ")
        # A run's own recipe names the run's folder.
        file.write_text(recipes.dump(Recipe(), adapter_path=str(tmp_path)))
        assert recipes.differences_from_mlx_lm(file, tmp_path / "adapters") == []

    def test_a_hub_dataset_is_split_as_mlx_lm_does(self, tmp_path: Path) -> None:
        path = tmp_path / "recipe.yaml"
        path.write_text("hf_dataset: {path: a/b}\n")
        assert recipes.load(path).data == "a/b@train[:80%],train[-10%:]"
        (note,) = recipes.differences_from_mlx_lm(path, tmp_path / "adapters")
        assert "the first 80% of train are trained and its last 10% validated" in note
        path.write_text(
            "hf_dataset: {path: a/b, config: {name: c}, train_split: 'train[:9]', valid_split: dev}"
        )
        assert recipes.load(path).data == "a/b:c@train[:9],dev"
        assert recipes.differences_from_mlx_lm(path, tmp_path / "adapters") == []

    def test_a_missing_file_is_one_sentence(self, tmp_path: Path) -> None:
        with pytest.raises(RecipeError, match="No such file"):
            recipes.load(tmp_path / "none.yaml")


class TestSchedule:
    def test_a_constant_rate_needs_no_schedule(self) -> None:
        assert recipes.resolved_schedule(Recipe()) is None

    def test_the_schedule_follows_the_learning_rate(self) -> None:
        recipe = setting("lr_schedule.name=cosine_decay", "learning_rate=1e-3", "iters=100")
        assert recipes.resolved_schedule(recipe) == LrSchedule("cosine_decay", (1e-3, 100.0))

    def test_its_length_is_counted_in_updates(self) -> None:
        recipe = setting(
            "lr_schedule.name=linear_schedule", "iters=10", "grad_accumulation_steps=4"
        )
        assert recipes.updates(recipe) == 3


class TestEpochs:
    def test_steps_of_three_epochs(self) -> None:
        """300 records, batch 4, 3 epochs make 225 steps."""
        assert recipes.iters_for_epochs(3, recipes.steps_per_epoch(300, 4)) == 225
        assert recipes.epochs_for_iters(225, recipes.steps_per_epoch(300, 4)) == 3
