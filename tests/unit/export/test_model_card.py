"""The page that goes with an export."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxft.export.model_card import Origin, gguf_name, model_card, without_folders
from mlxft.export.types import Exported, Proof, Quantize
from mlxft.recipe import Recipe

PROOF = Proof(
    source="validation",
    records=1,
    positions=1,
    largest_difference=0.0,
    mean_difference=0.0,
    base_loss=2.0,
    loss=1.0,
    exported_loss=1.0,
    answers=1,
    same_answers=1,
)


def test_a_base_model_that_only_this_application_knows_is_said_in_words() -> None:
    exported = Exported(form="adapter", folder="out", files=(), proof=PROOF, family="llama")
    origin = Origin(run="demo-lora-1", base="SmolLM2-135M-Instruct from PyPI")
    card = model_card(exported, Recipe(model="demo"), origin)
    assert "- base model: SmolLM2-135M-Instruct from PyPI" in card
    assert "generate --model MODEL --adapter-path" in card
    other = model_card(exported, Recipe(model="a/b"), Origin(run="b-lora-1"))
    assert "- base model: `a/b`" in other
    assert "validation.svg" not in other


def test_no_folder_of_the_data_is_in_what_may_be_published() -> None:
    exported = Exported(form="mlx", folder="out", files=(), proof=PROOF, family="llama")
    recipe = Recipe(model="a/b", data="/home/me/lamps/data", resume_adapter_file="/home/me/old")
    card = model_card(exported, recipe, Origin(run="b-lora-1"))
    assert "data: data\n" in card
    assert "/home/me" not in card
    config = {"model": "/home/me/b", "data": "/home/me/lamps/data", "adapter_path": "/home/me/run"}
    assert without_folders(config) == {"model": "/home/me/b", "data": "data"}


@pytest.mark.parametrize(("name", "is_said"), [("f16", False), ("keep", False), ("q8_0", True)])
def test_what_llama_cpp_rounds_beside_the_weights_is_said(name: str, is_said: bool) -> None:
    exported = Exported(
        form="gguf", folder="out", files=(), proof=PROOF, family="llama", quantize=Quantize(name)
    )
    card = model_card(exported, Recipe(model="a/b"), Origin(run="b-lora-1"))
    assert ("llama.cpp rounds" in card) == is_said


@pytest.mark.parametrize(
    ("folder", "file"),
    [
        ("demo-lora-1-gguf", "demo-lora-1.gguf"),
        ("demo-lora-1-gguf-adapter", "demo-lora-1-adapter.gguf"),
        ("mine", "mine.gguf"),
    ],
)
def test_the_gguf_file_has_the_form_once_in_its_name(folder: str, file: str) -> None:
    assert gguf_name(Path(folder)) == file
