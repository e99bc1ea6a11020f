"""Losses that train a preference against TRL's: the same batch, weights and constants.

Skipped without torch and TRL, which are no dependencies of this project.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from mlx_lm.utils import load_model

from mlxft.compute.training.loss import Loss
from mlxft.compute.training.preference_loss import PreferenceLoss
from mlxft.recipe import LossParameters, TrainingLoss
from support.models import make_tiny_model
from support.preferences import Compared, split_of

torch = pytest.importorskip("torch")
trl = pytest.importorskip("trl")

from datasets import Dataset  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

CONSTANTS = LossParameters(beta=0.3, simpo_gamma=0.7, desirable_weight=1.2, undesirable_weight=0.8)
TEXTS = [
    {"prompt": "The capital of France", "chosen": " is Paris.", "rejected": " is Rome in Italy"},
    {"prompt": "Turn on the", "chosen": " lamp in the kitchen.", "rejected": " off"},
    {"prompt": "assistant", "chosen": " heating", "rejected": " the bedroom. Turn"},
]
LABELS = (True, False, True)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model, and the one before training that it is compared with."""
    folder = tmp_path_factory.mktemp("trl")
    return make_tiny_model(folder / "now", seed=1), make_tiny_model(folder / "before", seed=2)


@pytest.fixture(scope="module")
def reference(models: tuple[Path, Path]) -> Any:
    return load_model(models[1])[0]


def ours(
    loss: TrainingLoss, model: Path, reference: Any, rows: list[Compared]
) -> tuple[float, dict[str, np.ndarray], list[float]]:
    """The loss, its gradients by the name of each weight of the blocks, and the figures."""
    loaded = load_model(model)[0]
    loaded.freeze()
    for layer in loaded.layers:
        layer.unfreeze()
    loaded.train()
    compute = PreferenceLoss(way=Loss(chunked=True), method=loss, constants=CONSTANTS)
    split, batch = split_of(rows, loss)
    if loss in ("dpo", "ipo", "kto"):
        before = split.arrays(batch)
        logps = np.array(compute.log_probabilities(reference, before))
        split.keep_reference(batch, logps, other=False)
        if before.mismatched is not None:
            others = compute.log_probabilities(reference, before.mismatched)
            split.keep_reference(batch, np.array(others), other=True)
    arrays = split.arrays(batch)
    if arrays.mismatched is not None:
        arrays = arrays.with_estimate(compute.log_probabilities(loaded, arrays.mismatched))

    def place(weights: Any) -> Any:
        loaded.update(weights)
        return loaded

    (value, figures), gradient = compute.with_gradient(place, loaded.trainable_parameters(), arrays)
    mx.eval(value, figures, gradient)
    named = {name: np.array(array) for name, array in tree_flatten(gradient)}
    return float(value), named, figures.tolist()


def first_batch(trainer: Any) -> Any:
    return next(iter(trainer.get_train_dataloader()))


def of_trl(trainer: Any, batch: Any) -> tuple[float, dict[str, np.ndarray]]:
    """A trainer's loss of a batch and its gradients by name."""
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    named = {
        name: each.grad.numpy()
        for name, each in trainer.model.named_parameters()
        if each.grad is not None and ".layers." in name
    }
    return float(loss), named


def arguments(kind: Any, folder: Path, **own: Any) -> Any:
    return kind(
        output_dir=str(folder),
        per_device_train_batch_size=len(TEXTS),
        report_to="none",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        remove_unused_columns=False,
        beta=CONSTANTS.beta,
        **own,
    )


def in_torch(path: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)


def compare(found: Any, expected: tuple[float, dict[str, np.ndarray]]) -> None:
    """Within a relative 1e-4, of each array's length."""
    assert found[0] == pytest.approx(expected[0], rel=1e-4)
    assert found[1].keys() == expected[1].keys()
    for name, array in expected[1].items():
        difference = np.linalg.norm(found[1][name] - array)
        assert difference <= 1e-4 * np.linalg.norm(array), name


def answers_of(batch: Any, tokens: str, trained: str) -> list[tuple[list[int], list[int]]]:
    """The prompts and answers in a batch of TRL; `trained` marks an answer's tokens."""
    mask = batch[tokens.replace("input_ids", "attention_mask")].bool()
    marks = batch[trained] if trained.endswith("mask") else batch[trained] != -100
    found = []
    for row, kept, marked in zip(batch[tokens], mask, marks.bool(), strict=True):
        first = int(marked[kept].nonzero()[0])
        ids = row[kept].tolist()
        found.append((ids[:first], ids[first:]))
    return found


def pairs_of(
    chosen: list[tuple[list[int], list[int]]], rejected: list[tuple[list[int], list[int]]]
) -> list[Compared]:
    return [Compared(p, c, r) for (p, c), (_, r) in zip(chosen, rejected, strict=True)]


@pytest.fixture
def tokenizer(models: tuple[Path, Path]) -> Any:
    return AutoTokenizer.from_pretrained(models[0], pad_token="<|endoftext|>")


@pytest.mark.parametrize("loss", ["dpo", "ipo"])
def test_with_a_reference(
    loss: TrainingLoss,
    models: tuple[Path, Path],
    reference: Any,
    tokenizer: Any,
    tmp_path: Path,
) -> None:
    kind = {"dpo": "sigmoid", "ipo": "ipo"}[loss]
    trainer = trl.DPOTrainer(
        model=in_torch(models[0]),
        ref_model=in_torch(models[1]),
        args=arguments(trl.DPOConfig, tmp_path, loss_type=[kind]),
        train_dataset=Dataset.from_list(TEXTS),
        processing_class=tokenizer,
    )
    batch = first_batch(trainer)
    both = answers_of(batch, "input_ids", "completion_mask")
    pairs = pairs_of(both[: len(TEXTS)], both[len(TEXTS) :])
    compare(ours(loss, models[0], reference, pairs), of_trl(trainer, batch))


@pytest.mark.parametrize("loss", ["orpo", "simpo"])
def test_without_a_reference(
    loss: TrainingLoss,
    models: tuple[Path, Path],
    reference: Any,
    tokenizer: Any,
    tmp_path: Path,
) -> None:
    experimental = pytest.importorskip(f"trl.experimental.{'orpo' if loss == 'orpo' else 'cpo'}")
    own: dict[str, Any] = {"max_length": 64}
    if loss == "orpo":
        kind, config = experimental.ORPOTrainer, experimental.ORPOConfig
    else:
        kind, config = experimental.CPOTrainer, experimental.CPOConfig
        own |= {"loss_type": "simpo", "simpo_gamma": CONSTANTS.simpo_gamma, "cpo_alpha": 0.0}
    trainer = kind(
        model=in_torch(models[0]),
        args=arguments(config, tmp_path, **own),
        train_dataset=Dataset.from_list(TEXTS),
        processing_class=tokenizer,
    )
    batch = first_batch(trainer)
    chosen, rejected = (
        answers_of(batch, f"{side}_input_ids", f"{side}_labels") for side in ("chosen", "rejected")
    )
    compare(ours(loss, models[0], reference, pairs_of(chosen, rejected)), of_trl(trainer, batch))


def test_labelled_answers(
    models: tuple[Path, Path], reference: Any, tokenizer: Any, tmp_path: Path
) -> None:
    rows = [
        {"prompt": each["prompt"], "completion": each["chosen"], "label": label}
        for each, label in zip(TEXTS, LABELS, strict=True)
    ]
    trainer = trl.KTOTrainer(
        model=in_torch(models[0]),
        ref_model=in_torch(models[1]),
        args=arguments(
            trl.KTOConfig,
            tmp_path,
            desirable_weight=CONSTANTS.desirable_weight,
            undesirable_weight=CONSTANTS.undesirable_weight,
            train_sampling_strategy="sequential",
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    batch = first_batch(trainer)
    answers = [
        Compared(prompt, answer, None, label)
        for (prompt, answer), label in zip(
            answers_of(batch, "input_ids", "completion_mask"), LABELS, strict=True
        )
    ]
    found, expected = ours("kto", models[0], reference, answers), of_trl(trainer, batch)
    assert found[2][-1] > 0, "with no divergence the estimate would not be compared"
    compare(found, expected)
