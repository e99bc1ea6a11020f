"""Embedding and head trained beside the adapter: all of them, the rows of tokens, or by LoRA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from mlxft.compute.arrays import named_arrays
from mlxft.compute.models import adapters, embeddings, loading
from mlxft.compute.models.trained_rows import TrainedRows
from mlxft.compute.models.variants import BASE, Variants
from mlxft.compute.tokenization import load_tokenizer
from mlxft.compute.training.batches import batch_arrays
from mlxft.compute.training.loss import Loss, plain_loss
from mlxft.compute.training.start_checks import verified
from mlxft.compute.training.trained_head import head_weights
from mlxft.errors import ModelError, RecipeError
from mlxft.recipe import Recipe, apply_settings
from mlxft.runs import events as ev
from support.families import attached as attached_family
from support.families import lora_recipe, make_model
from support.models import make_tiny_model
from support.training import MakeRun, stop_after

TOKENS = np.random.default_rng(0).integers(0, 250, (2, 12), np.int32)
TWO = "train_embeddings=<|im_start|>,<|im_end|>"


@pytest.fixture(scope="module")
def untied_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "untied", tie_word_embeddings=False)


@pytest.fixture(params=["tied", "untied"])
def folder(request: pytest.FixtureRequest, tiny_model: Path, untied_model: Path) -> Path:
    return tiny_model if request.param == "tied" else untied_model


def attached(folder: Path, *settings: str, bits: int | None = None) -> Any:
    """The model with what a recipe trains, all of it away from its start."""
    loaded = loading.load(folder)
    if bits:
        nn.quantize(loaded.model, group_size=32, bits=bits)
    recipe = apply_settings(Recipe(), ("num_layers=-1", *settings))
    adapters.attach(loaded, recipe, load_tokenizer(folder, False))
    model, random = loaded.model, np.random.default_rng(1)
    moved = {
        name: each + mx.array(random.normal(0, 0.05, each.shape), mx.float32)
        for name, each in named_arrays(model.trainable_parameters()).items()
    }
    model.load_weights(list(moved.items()), strict=False)
    return model


def gradients(model: Any, loss: Loss) -> dict[str, np.ndarray[Any, Any]]:
    def place(weights: Any) -> Any:
        model.update(weights)
        return model

    model.train()
    batch = batch_arrays(TOKENS, np.ones(TOKENS.shape, np.bool_))
    weights = model.trainable_parameters()
    (value, _), found = loss.with_gradient(place, weights, batch)
    mx.eval(value, found)
    return {"loss": np.array(value)} | {n: np.array(a) for n, a in named_arrays(found).items()}


WAYS = {
    "all": ("train_embeddings=all",),
    "tokens": (TWO,),
    "full": ("fine_tune_type=full", "train_embeddings=all"),
    "embedding": ("lora_parameters.keys=self_attn.q_proj,model.embed_tokens",),
    "head": ("lora_parameters.keys=self_attn.q_proj,lm_head",),
}


class TestGradients:
    @pytest.mark.parametrize("way", WAYS)
    def test_those_in_chunks_are_the_plain_ones(
        self, folder: Path, way: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if way == "head" and folder.name == "tiny":
            pytest.skip("a tied model has no head")
        monkeypatch.setattr("mlxft.compute.training.trained_head.chunk_rows", lambda *_: 5)
        model = attached(folder, *WAYS[way])
        has_head = way != "embedding" or folder.name == "tiny"
        assert bool(head_weights(model)) == has_head
        plain = gradients(model, plain_loss)
        chunked = gradients(model, Loss(chunked=True, trains_head=has_head))
        assert plain.keys() == chunked.keys()
        for name, each in plain.items():
            assert chunked[name] == pytest.approx(each, rel=1e-4, abs=1e-5), name
        assert verified(model).loss.chunked

    def test_a_heads_dropout_is_no_reason_to_compute_all_logits(self, tiny_model: Path) -> None:
        model = attached(tiny_model, *WAYS["embedding"], "lora_parameters.dropout=0.5")
        found = verified(model)
        assert found.loss.chunked
        assert model.model.embed_tokens.dropout.kept == 0.5

    def test_frozen_blocks_are_recomputed_too(self, tiny_model: Path) -> None:
        model = attached(tiny_model, TWO, "num_layers=1")
        found = verified(model, grad_checkpoint=True)
        assert found.grad_checkpoint
        assert found.warnings == ()

    def test_those_of_rows_are_rows_of_the_whole_gradient(self, folder: Path) -> None:
        """The formula: a row's gradient by input and output, of the weights as they are."""
        whole, few = attached(folder, WAYS["all"][0]), attached(folder, TWO)
        for model in (whole, few):
            for _, layer in adapters.adapted(model):
                if not isinstance(layer, TrainedRows):
                    layer.lora_b = mx.zeros_like(layer.lora_b)
                else:
                    weight = layer.base.weight
                    layer.rows = weight if layer.tokens is None else weight[layer.tokens]
        every, some = gradients(whole, plain_loss), gradients(few, plain_loss)
        ids = load_tokenizer(folder, False).convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
        for name in (each for each in some if each.endswith(".rows")):
            assert some[name] == pytest.approx(every[name][sorted(ids)], rel=1e-4, abs=1e-7)


class TestFamilies:
    @pytest.mark.parametrize(
        ("family", "embedding", "head"),
        [
            ("gemma3n", "model.language_model.embed_tokens", None),
            ("gpt2", "model.wte", None),
            ("gpt_neox", "model.embed_in", "model.embed_out"),
            ("internlm2", "model.tok_embeddings", "output"),
            ("phixtral", "transformer.embd.wte", "lm_head.linear"),
            ("mamba2", "backbone.embeddings", None),
        ],
    )
    def test_embedding_and_head_are_found(
        self, family: str, embedding: str, head: str | None
    ) -> None:
        model = make_model(family)
        found = embeddings.token_embedding(model), embeddings.head(model)
        assert tuple(each and each[0] for each in found) == (embedding, head)
        assert head_weights(attached_family(model, lora_recipe(family))) == {}


class TestLayers:
    @pytest.mark.parametrize("bits", [None, 4, 8])
    @pytest.mark.parametrize("way", ["all", "tokens"])
    def test_fused_they_compute_the_same(self, folder: Path, way: str, bits: int | None) -> None:
        model = attached(folder, *WAYS[way], bits=bits)
        tokens = mx.array(TOKENS)
        before = np.array(model.eval()(tokens))
        for name, layer in adapters.adapted(model):
            if isinstance(layer, TrainedRows):
                parent = model
                *outer, last = name.split(".")
                for each in outer:
                    parent = parent[each]
                parent[last] = layer.fuse(dequantize=True)
        assert np.array(model(tokens)) == pytest.approx(before, rel=1e-4, abs=1e-4)

    def test_other_tokens_are_those_of_the_model(self, folder: Path) -> None:
        loaded = loading.load(folder)
        plain = np.array(loaded.model(mx.array(TOKENS)))
        recipe = apply_settings(Recipe(), ("num_layers=-1", TWO))
        adapters.attach(loaded, recipe, load_tokenizer(folder, False))
        assert np.array(loaded.model(mx.array(TOKENS))) == pytest.approx(plain, abs=1e-5)


class TestRuns:
    @pytest.mark.parametrize("way", ["all", "tokens", "full"])
    def test_what_is_saved_is_loaded_and_leaves_the_base_as_it_was(
        self, make_run: MakeRun, folder: Path, way: str
    ) -> None:
        run = make_run(f"model={folder}", *WAYS[way], "learning_rate=1e-2", "iters=3")
        run.train()
        said = [each.message for each in run.of(ev.Warned) if "mlx_lm refuses" in each.message]
        assert bool(said) == (way != "full")
        variants = Variants(loading.load(folder))
        tokens = mx.array(TOKENS)
        base = np.array(variants.loaded.model(tokens))
        saved, _ = variants.saved(run.directory.path)
        variants.use(saved)
        trained = run.session()
        trained.prepare()
        expected = np.array(trained.prepared.loaded.model.eval()(tokens))
        assert np.array(variants.loaded.model(tokens)) == pytest.approx(expected, abs=1e-5)
        assert np.abs(expected - base).max() > 1e-3
        variants.use(BASE)
        assert np.array_equal(np.array(variants.loaded.model(tokens)), base)

    @pytest.mark.parametrize("way", ["all", "embedding"])
    def test_a_resume_is_exact(self, make_run: MakeRun, way: str) -> None:
        whole, parts = make_run(*WAYS[way]), make_run(*WAYS[way])
        whole.train()
        parts.train(stop_after(3))
        parts.train()
        assert parts.adapter() == whole.adapter()

    def test_a_run_starts_from_rows_of_the_same_tokens_only(self, make_run: MakeRun) -> None:
        first = make_run(TWO, "iters=1")
        first.train()
        start = f"resume_adapter_file={first.directory.path}"
        same = make_run(TWO, "iters=1", "learning_rate=0", start)
        same.train()
        assert same.adapter() == first.adapter()
        other = make_run("train_embeddings=<|im_start|>,<|endoftext|>", "iters=1", start)
        with pytest.raises(ModelError, match="rows are those of other tokens"):
            other.train()


class TestRefusals:
    @pytest.mark.parametrize(
        ("settings", "says"),
        [
            (("train_embeddings=<|new|>",), r"has <\|new\|>, which is no token of this model but"),
            (("train_embeddings=<|im_end|>", "fine_tune_type=full"), "set it to all"),
            (
                (TWO, "lora_parameters.keys=model.embed_tokens"),
                r"model\.embed_tokens, which train_embeddings trains",
            ),
        ],
    )
    def test_what_cannot_be_trained_is_said_before_the_start(
        self, make_run: MakeRun, settings: tuple[str, ...], says: str
    ) -> None:
        with pytest.raises(RecipeError, match=says):
            make_run(*settings).train()
