"""The memory estimate against mlx_lm's own counts and recorded peaks."""

from itertools import pairwise
from typing import Any

import pytest

from mlxft import recipe as recipes
from mlxft.hosts import RankCount
from mlxft.memory.calibration import Calibration, Peak, calibrated
from mlxft.memory.confidence import Assumptions
from mlxft.memory.estimator import MemoryEstimate, adapter_parameters, estimate
from mlxft.memory.families import FAMILIES
from mlxft.memory.fitted import BackendKind
from mlxft.memory.shapes import ModelShapes
from mlxft.memory.step_memory import Corrections
from mlxft.recipe import Recipe
from support.architectures import ARCHITECTURES

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "intermediate_size": 160,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "vocab_size": 300,
    "tie_word_embeddings": True,
}
EXPERTS = {
    **LLAMA,
    "model_type": "qwen3_moe",
    "head_dim": 16,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "decoder_sparse_step": 2,
    "mlp_only_layers": [],
    "norm_topk_prob": True,
    "rope_theta": 1e4,
    "max_position_embeddings": 64,
}
SMOLLM2: dict[str, Any] = {
    **LLAMA,
    "hidden_size": 576,
    "num_hidden_layers": 30,
    "intermediate_size": 1536,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
}

SMALL: dict[str, Any] = {
    **LLAMA,
    "hidden_size": 256,
    "num_hidden_layers": 8,
    "intermediate_size": 768,
    "vocab_size": 4096,
    "head_dim": 64,
}
RECURRENT: dict[str, Any] = {
    **SMALL,
    "model_type": "qwen3_5",
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 64,
    "linear_value_head_dim": 64,
    "linear_conv_kernel_dim": 4,
}
LATENT: dict[str, Any] = {
    **SMALL,
    "model_type": "deepseek_v3",
    "num_key_value_heads": 4,
    "kv_lora_rank": 64,
    "q_lora_rank": 96,
    "qk_rope_head_dim": 32,
    "qk_nope_head_dim": 64,
    "v_head_dim": 64,
    "n_routed_experts": 16,
    "n_shared_experts": 1,
    "num_experts_per_tok": 4,
    "moe_intermediate_size": 128,
    "first_k_dense_replace": 1,
}
CONVOLUTION: dict[str, Any] = {
    **SMALL,
    "model_type": "lfm2",
    "hidden_size": 384,
    "num_attention_heads": 6,
    "conv_L_cache": 3,
    "intermediate_size": 1024,
    "layer_types": ["conv", "conv", "full_attention", "conv"] * 2,
}


def recipe(**settings: Any) -> Recipe:
    return recipes.from_mapping({"num_layers": 2, "max_seq_length": 129, **settings})


def estimated(config: dict[str, Any], kind: BackendKind = "cpu", **settings: Any) -> MemoryEstimate:
    return estimate(ModelShapes.from_config(config), recipe(**settings), kind, limit=None)


def trained_model(config: dict[str, Any], wanted: Recipe) -> Any:
    """mlx_lm's model of a config, with the recipe's trainable parameters."""
    from mlx_lm.tuner.utils import linear_to_lora_layers
    from mlx_lm.utils import _get_classes

    model_class, arguments = _get_classes(config)
    model = model_class(arguments.from_dict(config))
    model.freeze()
    if wanted.fine_tune_type == "full":
        for layer in model.layers[-max(wanted.num_layers, 0) :]:
            layer.unfreeze()
    else:
        parameters = recipes.to_mapping(wanted)["lora_parameters"]
        dora = wanted.fine_tune_type == "dora"
        linear_to_lora_layers(model, wanted.num_layers, parameters, use_dora=dora)
    return model


def attached_model(config: dict[str, Any], wanted: Recipe) -> Any:
    """The same with what mlx_lm doesn't train."""
    from mlx_lm.utils import _get_classes

    from mlxft.compute.models import adapters
    from mlxft.compute.models.loading import LoadedModel

    model_class, arguments = _get_classes(config)
    loaded = LoadedModel(model_class(arguments.from_dict(config)), config, "none", "float32", 0)
    adapters.attach(loaded, wanted)
    return loaded.model


def size(tree: Any) -> int:
    from mlx.utils import tree_flatten

    return sum(array.size for _, array in tree_flatten(tree))


class TestAdapter:
    """As many parameters as mlx_lm makes trainable."""

    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"num_layers": -1},
            {"num_layers": 3, "lora_parameters": {"rank": 5}},
            {"lora_parameters": {"keys": ["self_attn.q_proj", "mlp.down_proj"]}},
            {"fine_tune_type": "dora"},
        ],
    )
    def test_a_dense_model(self, settings: dict[str, Any]) -> None:
        wanted = recipe(**settings)
        shapes = ModelShapes.from_config(LLAMA)
        ours = adapter_parameters(shapes.trained_blocks(wanted.num_layers), wanted)
        assert ours == size(trained_model(LLAMA, wanted).trainable_parameters())

    def test_each_expert_has_an_adapter(self) -> None:
        wanted = recipe(num_layers=-1)
        shapes = ModelShapes.from_config(EXPERTS)
        ours = adapter_parameters(shapes.trained_blocks(-1), wanted)
        assert ours == size(trained_model(EXPERTS, wanted).trainable_parameters())

    @pytest.mark.parametrize("family", sorted(FAMILIES & ARCHITECTURES.keys()))
    def test_every_family(self, family: str) -> None:
        """Including matrices without one, such as the per-head matrices of latent attention."""
        wanted, config = recipe(num_layers=-1), ARCHITECTURES[family]
        shapes = ModelShapes.from_config(config)
        ours = adapter_parameters(shapes.trained_blocks(-1), wanted)
        assert ours == size(trained_model(config, wanted).trainable_parameters())

    @pytest.mark.parametrize("tied", [True, False])
    @pytest.mark.parametrize(
        ("settings", "is_full"),
        [
            ({"lora_parameters": {"keys": ["self_attn.q_proj", "model.embed_tokens"]}}, False),
            ({"lora_parameters": {"keys": ["self_attn.q_proj", "lm_head"]}}, False),
            ({"train_embeddings": ["all"], "fine_tune_type": "dora"}, False),
            ({"train_embeddings": ["all"], "fine_tune_type": "full"}, True),
        ],
    )
    def test_embedding_and_head(self, settings: dict[str, Any], is_full: bool, tied: bool) -> None:
        config = {**LLAMA, "tie_word_embeddings": tied}
        if tied and "lm_head" in str(settings):
            settings = {}
        trained = attached_model(config, recipe(**settings)).trainable_parameters()
        found = estimated(config, optimizer="sgd", **settings)
        assert found.adapter == (0 if is_full else 4 * size(trained))
        assert found.optimizer == 4 * size(trained)

    def test_full_fine_tuning_has_none(self) -> None:
        assert estimated(LLAMA, fine_tune_type="full").adapter == 0


class TestOptimizer:
    """As many bytes as mlx's optimizers keep."""

    @pytest.mark.parametrize("kind", ["lora", "full"])
    @pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "muon", "adafactor"])
    def test_the_state(self, name: str, kind: str) -> None:
        from mlx.utils import tree_flatten

        from mlxft.compute.training.optimizers import make_optimizer

        wanted = recipe(optimizer=name, fine_tune_type=kind)
        optimizer = make_optimizer(wanted)
        optimizer.init(trained_model(LLAMA, wanted).trainable_parameters())
        kept = sum(
            array.nbytes
            for path, array in tree_flatten(optimizer.state)
            if path not in ("step", "learning_rate")
        )
        ours = estimated(LLAMA, optimizer=name, fine_tune_type=kind).optimizer
        assert ours == pytest.approx(kept, rel=0.01)


class TestWeights:
    def test_a_gpu_keeps_them_as_stored(self) -> None:
        config = {**LLAMA, "quantization": {"bits": 4, "group_size": 32}}
        shapes = ModelShapes.from_config(config)
        assert estimated(config, "metal").weights == shapes.stored_bytes
        assert estimated(config, "cuda").weights < shapes.parameters

    def test_a_cpu_keeps_them_in_float32(self) -> None:
        config = {**LLAMA, "quantization": {"bits": 4, "group_size": 32}}
        assert estimated(config, "cpu").weights == 4 * ModelShapes.from_config(config).parameters


class TestRecordedPeaks:
    """Peaks that MLX reported for this trainer's step, in bytes."""

    @pytest.mark.parametrize(
        ("peak", "settings"),
        [
            (593_063_000, {"batch_size": 2, "num_layers": 4, "max_seq_length": 65}),
            (629_443_676, {"batch_size": 2, "num_layers": 4, "max_seq_length": 129}),
            (685_354_980, {"batch_size": 1, "num_layers": 16, "max_seq_length": 129}),
            (
                602_569_468,
                {"batch_size": 2, "num_layers": -1, "grad_checkpoint": True, "max_seq_length": 65},
            ),
            (
                666_776_632,
                {"batch_size": 2, "num_layers": -1, "grad_checkpoint": True, "max_seq_length": 257},
            ),
        ],
    )
    def test_smollm2_135m_on_a_cpu(self, peak: int, settings: dict[str, Any]) -> None:
        guess = estimated(SMOLLM2, **settings)
        assert 0.95 * peak < guess.peak < 1.15 * peak

    @pytest.mark.parametrize(
        ("config", "peak", "settings"),
        [
            (CONVOLUTION, 107_041_868, {"max_seq_length": 65}),
            (CONVOLUTION, 229_431_944, {"max_seq_length": 257}),
            (CONVOLUTION, 79_497_328, {"grad_checkpoint": True, "max_seq_length": 65}),
            (CONVOLUTION, 252_606_188, {"fine_tune_type": "full", "max_seq_length": 65}),
            (LATENT, 92_918_060, {"num_layers": 4, "max_seq_length": 65}),
            (LATENT, 242_071_568, {"max_seq_length": 257}),
            (LATENT, 119_886_128, {"grad_checkpoint": True, "max_seq_length": 257}),
            (LATENT, 177_810_692, {"num_layers": 4, "batch_size": 1, "max_seq_length": 513}),
            (
                LATENT,
                166_864_036,
                {"num_layers": 4, "fine_tune_type": "full", "max_seq_length": 65},
            ),
            (RECURRENT, 72_110_140, {"max_seq_length": 65}),
            (RECURRENT, 134_693_052, {"fine_tune_type": "full", "max_seq_length": 65}),
            (RECURRENT, 115_006_452, {"num_layers": 4, "max_seq_length": 257}),
            (
                RECURRENT,
                73_521_844,
                {"num_layers": 4, "grad_checkpoint": True, "max_seq_length": 257},
            ),
            (RECURRENT, 79_972_812, {"num_layers": 2, "batch_size": 1, "max_seq_length": 513}),
            (RECURRENT, 130_771_132, {"num_layers": 5, "batch_size": 1, "max_seq_length": 513}),
            (
                RECURRENT,
                72_301_744,
                {"num_layers": 5, "batch_size": 1, "grad_checkpoint": True, "max_seq_length": 513},
            ),
        ],
    )
    def test_newer_families_on_a_cpu(
        self, config: dict[str, Any], peak: int, settings: dict[str, Any]
    ) -> None:
        guess = estimated(config, **{"batch_size": 2, "num_layers": -1, **settings})
        assert 0.95 * peak < guess.peak < 1.15 * peak

    @pytest.mark.parametrize(
        ("tied", "peak", "settings"),
        [
            (True, 113_576_664, {"train_embeddings": ["all"]}),
            (True, 90_545_156, {"train_embeddings": ["<a>", "<b>"]}),
            (
                True,
                89_887_420,
                {"lora_parameters": {"keys": ["self_attn.q_proj", "model.embed_tokens"]}},
            ),
            (True, 121_178_788, {"train_embeddings": ["all"], "fine_tune_type": "full"}),
            (True, 72_792_332, {"train_embeddings": ["all"], "grad_checkpoint": True}),
            (
                True,
                128_960_764,
                {"train_embeddings": ["all"], "grad_checkpoint": True, "batch_size": 8},
            ),
            (False, 130_353_880, {"train_embeddings": ["all"]}),
            (False, 94_761_996, {"train_embeddings": ["<a>", "<b>"]}),
            (False, 133_498_532, {"train_embeddings": ["all"], "fine_tune_type": "full"}),
            (False, 89_577_736, {"train_embeddings": ["all"], "grad_checkpoint": True}),
        ],
    )
    def test_what_is_trained_outside_of_the_blocks(
        self, tied: bool, peak: int, settings: dict[str, Any]
    ) -> None:
        """Gradients go through all eight blocks, though two are trained."""
        config = {**SMALL, "tie_word_embeddings": tied}
        guess = estimated(config, **{"batch_size": 2, "num_layers": 2, **settings})
        assert 0.95 * peak < guess.peak < 1.15 * peak


class TestOrder:
    """A larger recipe never needs less."""

    @pytest.mark.parametrize("checkpointed", [False, True])
    @pytest.mark.parametrize("kind", ["lora", "dora", "full"])
    @pytest.mark.parametrize("backend", ["cpu", "metal", "cuda"])
    @pytest.mark.parametrize(
        ("key", "values"),
        [
            ("batch_size", [1, 2, 3, 8, 64]),
            ("max_seq_length", [8, 64, 65, 2048, 32768]),
            ("num_layers", [1, 2, 3, 4]),
            ("lora_parameters.rank", [1, 8, 64, 512]),
            ("grad_accumulation_steps", [1, 2, 8]),
        ],
    )
    def test_a_larger_value_never_lowers_the_estimate(
        self, backend: BackendKind, kind: str, checkpointed: bool, key: str, values: list[int]
    ) -> None:
        shapes = ModelShapes.from_config(LLAMA)
        base = recipe(fine_tune_type=kind, grad_checkpoint=checkpointed, optimizer="adamw")
        totals = [
            estimate(shapes, recipes.replace(base, key, value), backend, None).total
            for value in values
        ]
        assert all(smaller <= larger for smaller, larger in pairwise(totals))

    @pytest.mark.parametrize("layers", [1, 2, 4])
    @pytest.mark.parametrize("backend", ["cpu", "metal", "cuda"])
    @pytest.mark.parametrize("config", [LLAMA, EXPERTS, SMOLLM2])
    def test_checkpointing_never_raises_it(
        self, config: dict[str, Any], backend: BackendKind, layers: int
    ) -> None:
        plain = estimated(config, backend, num_layers=layers)
        checkpointed = estimated(config, backend, num_layers=layers, grad_checkpoint=True)
        assert checkpointed.total <= plain.total

    def test_more_layers_than_blocks_means_all(self) -> None:
        assert estimated(LLAMA, num_layers=99) == estimated(LLAMA, num_layers=-1)


class TestLength:
    def test_short_records_need_less_than_the_recipe_allows(self) -> None:
        shapes, wanted = ModelShapes.from_config(LLAMA), recipe(max_seq_length=2048)
        short = estimate(shapes, wanted, "cpu", None, 100)
        assert short == estimated(LLAMA, max_seq_length=100)

    def test_long_records_are_truncated(self) -> None:
        shapes, wanted = ModelShapes.from_config(LLAMA), recipe(max_seq_length=64)
        assert estimate(shapes, wanted, "cpu", None, longest=5000) == estimated(
            LLAMA, max_seq_length=64
        )


class TestVerdict:
    def test_it_depends_on_the_share_of_the_limit(self) -> None:
        shapes, wanted = ModelShapes.from_config(LLAMA), recipe()
        total = estimate(shapes, wanted, "cpu", None).total
        verdicts = {
            limit: estimate(shapes, wanted, "cpu", limit).verdict
            for limit in (2 * total, total + 1, total - 1, None)
        }
        assert list(verdicts.values()) == ["fits", "tight", "wont_fit", "unknown"]

    def test_the_parts_add_up_to_the_total(self) -> None:
        guess = estimated(LLAMA, "metal")
        assert sum(guess.parts.values()) == guess.total
        assert guess.total == guess.peak + guess.cache + guess.base

    def test_an_unknown_family_is_marked(self) -> None:
        assert not estimated({**LLAMA, "model_type": "newcomer"}).known_family


class TestCalibration:
    """Finished runs correct what is estimated, not what is counted."""

    @staticmethod
    def peak(share: float, **settings: Any) -> Peak:
        guess = estimated(SMOLLM2, **settings)
        guessed = guess.activations + guess.loss
        return Peak(guess, round(guess.peak + (share - 1) * guessed))

    def test_without_runs_nothing_is_corrected(self) -> None:
        assert calibrated([]) == Calibration()

    def test_a_run_that_needed_more_raises_the_next_estimate(self) -> None:
        factor = calibrated([self.peak(1.3)]).factor
        assert factor == pytest.approx(1.3, abs=1e-6)
        shapes, wanted = ModelShapes.from_config(SMOLLM2), recipe()
        plain = estimate(shapes, wanted, "cpu", None)
        corrected = estimate(shapes, wanted, "cpu", None, corrections=Corrections().times(factor))
        assert corrected.weights == plain.weights
        assert corrected.optimizer == plain.optimizer
        assert corrected.loss == pytest.approx(1.3 * plain.loss, abs=1)

    def test_several_runs_give_their_median(self) -> None:
        peaks = [self.peak(share) for share in (1.1, 1.2, 2.5)]
        assert calibrated(peaks).factor == pytest.approx(1.2, abs=1e-6)

    def test_an_implausible_run_is_ignored(self) -> None:
        guess = estimated(SMOLLM2)
        assert calibrated([Peak(guess, guess.weights // 2)]) == Calibration()
        found = calibrated([self.peak(40.0), self.peak(1.2)])
        assert found.factor == pytest.approx(1.2, abs=1e-6)
        assert found.runs == 1

    def test_the_error_is_what_the_runs_disagree_in(self) -> None:
        same = [self.peak(1.2), self.peak(1.2, batch_size=8)]
        assert calibrated(same).error == pytest.approx(0, abs=1e-6)
        apart = calibrated([self.peak(1.0), self.peak(1.4)])
        assert apart.error is not None
        assert apart.error > 0.02
        assert calibrated([self.peak(1.2)]).error is None


class TestRanks:
    def of(self, *settings: str, backend: BackendKind = "cpu") -> MemoryEstimate:
        recipe = recipes.apply_settings(Recipe(), ["max_seq_length=64", *settings])
        return estimate(ModelShapes.from_config(SMALL), recipe, backend, 10**9)

    def test_a_rank_needs_what_its_largest_part_of_the_batch_needs(self) -> None:
        alone = self.of("batch_size=3")
        assert self.of("batch_size=6", "hosts=2").total == alone.total
        assert self.of("batch_size=5", "hosts=2").total == alone.total

    def test_ranks_share_the_memory_of_a_machine_but_not_of_gpus(self) -> None:
        assert self.of("hosts=4").limit == 10**9 // 4
        assert self.of("hosts=a, b, c").limit == 10**9
        assert self.of("hosts=4", backend="cuda").limit == 10**9

    def test_the_message_of_the_gradients_counts_where_activations_are_few(self) -> None:
        settings = ("fine_tune_type=full", "optimizer=sgd", "batch_size=2", "num_layers=-1")
        one = self.of("max_seq_length=8", *settings)
        two = self.of("max_seq_length=8", *settings, "hosts=2")
        assert two.peak > one.peak

    def test_whose_memory_it_is_is_said_where_there_are_several(self) -> None:
        four, gpus = (
            Assumptions(kind=kind, ranks=RankCount(4, 4), used_elsewhere=2, installed=10)
            for kind in ("metal", "cuda")
        )
        assert four.lines[0] == "of each of 4 processes; 4 share this machine's"
        assert (four.free, gpus.free) == (2, 8)
        assert gpus.lines[0] == "of each of 4 processes"
        assert Assumptions(kind="metal").lines == []
