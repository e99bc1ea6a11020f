"""Properties of the estimate that hold for any recipe."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxft import recipe as recipes
from mlxft.advice.fit import fit
from mlxft.memory.estimator import MemoryEstimate, estimate
from mlxft.memory.fitted import BackendKind
from mlxft.memory.shapes import ModelShapes
from mlxft.recipe import Recipe

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 32000,
    "tie_word_embeddings": True,
    "quantization": {"bits": 4, "group_size": 64},
}
SHAPES = ModelShapes.from_config(CONFIG)
BLOCKS = len(SHAPES.blocks)

kinds: st.SearchStrategy[BackendKind] = st.sampled_from(("metal", "cuda", "cpu"))


@st.composite
def any_recipe(draw: st.DrawFn) -> Recipe:
    return recipes.from_mapping(
        {
            "fine_tune_type": draw(st.sampled_from(("lora", "dora", "full"))),
            "optimizer": draw(st.sampled_from(("adam", "sgd", "muon", "adafactor"))),
            "batch_size": draw(st.integers(1, 64)),
            "max_seq_length": draw(st.integers(8, 16384)),
            "num_layers": draw(st.integers(1, BLOCKS)),
            "grad_checkpoint": draw(st.booleans()),
            "packing": draw(st.booleans()),
            "grad_accumulation_steps": draw(st.integers(1, 8)),
            "lora_parameters": {"rank": draw(st.integers(1, 256))},
        }
    )


def total(recipe: Recipe, kind: BackendKind) -> int:
    return estimate(SHAPES, recipe, kind, None).total


class TestMoreIsNeverLess:
    @pytest.mark.parametrize(
        ("key", "most"),
        [
            ("batch_size", 128),
            ("max_seq_length", 32768),
            ("num_layers", BLOCKS),
            ("lora_parameters.rank", 512),
        ],
    )
    @given(recipe=any_recipe(), kind=kinds, data=st.data())
    @settings(max_examples=60, deadline=None)
    def test_a_larger_value_never_lowers_the_estimate(
        self, key: str, most: int, recipe: Recipe, kind: BackendKind, data: st.DataObject
    ) -> None:
        larger = data.draw(st.integers(recipes.get(recipe, key), most))
        assert total(recipe, kind) <= total(recipes.replace(recipe, key, larger), kind)

    @given(recipe=any_recipe(), kind=kinds)
    @settings(max_examples=100, deadline=None)
    def test_checkpointing_never_raises_it(self, recipe: Recipe, kind: BackendKind) -> None:
        plain, checkpointed = (
            recipes.replace(recipe, "grad_checkpoint", each) for each in (False, True)
        )
        assert total(checkpointed, kind) <= total(plain, kind)


class TestFitting:
    @given(recipe=any_recipe(), kind=kinds, share=st.floats(0.05, 1.2))
    @settings(max_examples=60, deadline=None)
    def test_the_fitted_recipe_fits_and_its_savings_add_up(
        self, recipe: Recipe, kind: BackendKind, share: float
    ) -> None:
        limit = int(share * total(recipe, kind))

        def limited(recipe: Recipe) -> MemoryEstimate:
            return estimate(SHAPES, recipe, kind, limit)

        fitted, savings = fit(recipe, limited, BLOCKS)
        if fitted is None:
            return
        assert limited(fitted).verdict != "wont_fit"
        assert limited(recipe).total - limited(fitted).total == sum(each.saved for each in savings)
