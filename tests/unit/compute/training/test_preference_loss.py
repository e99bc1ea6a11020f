"""Losses that train a preference against their formulas, written out for one pair after another."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from mlx_lm.utils import load_model

from mlxft.compute.training.loss import Loss
from mlxft.compute.training.preference_loss import PreferenceLoss, preference_of
from mlxft.recipe import LossParameters, TrainingLoss
from support.models import make_tiny_model
from support.preferences import Compared, split_of

BETA, GAMMA = 0.3, 0.7
CONSTANTS = LossParameters(
    beta=BETA,
    simpo_gamma=GAMMA,
    label_smoothing=0.1,
    desirable_weight=1.2,
    undesirable_weight=0.8,
)
ROWS = [
    Compared([5, 9, 4, 7], [11, 3, 8, 20, 31, 2], [14, 15, 2]),
    Compared([6, 6, 21], [17, 2], [12, 25, 26, 19, 2], is_good=False),
    Compared([8, 30, 22, 23, 9], [18, 10, 2], [13, 13, 13, 2]),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    loaded = load_model(make_tiny_model(tmp_path_factory.mktemp("models") / "now", seed=1))[0]
    loaded.freeze()
    for layer in loaded.layers:
        layer.unfreeze()
    return loaded.train()


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_model(make_tiny_model(tmp_path_factory.mktemp("models") / "before", seed=2))[0]


def log_probability(model: Any, prompt: list[int], answer: list[int]) -> tuple[Any, int]:
    """Of the answer after the prompt, token by token; and its number of tokens."""
    tokens = mx.array([[*prompt, *answer]])
    logits = model(tokens[:, :-1])[0]
    logps = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    places = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
    return sum(logps[at, tokens[0, at + 1]] for at in places), len(answer)


def log_sigmoid(x: Any) -> Any:
    return mx.log(mx.sigmoid(x))


def log_odds(logp: Any) -> Any:
    return logp - mx.log(1 - mx.exp(logp))


def of_pair(loss: TrainingLoss, model: Any, before: Any, row: Compared) -> Any:
    assert row.rejected is not None
    chosen, chosen_length = log_probability(model, row.prompt, row.chosen)
    rejected, rejected_length = log_probability(model, row.prompt, row.rejected)
    chosen_before, _ = log_probability(before, row.prompt, row.chosen)
    rejected_before, _ = log_probability(before, row.prompt, row.rejected)
    if loss == "dpo":
        margin = BETA * ((chosen - chosen_before) - (rejected - rejected_before))
        return -0.9 * log_sigmoid(margin) - 0.1 * log_sigmoid(-margin)
    if loss == "ipo":
        chosen_ratio = (chosen - chosen_before) / chosen_length
        rejected_ratio = (rejected - rejected_before) / rejected_length
        return (chosen_ratio - rejected_ratio - 1 / (2 * BETA)) ** 2
    chosen, rejected = chosen / chosen_length, rejected / rejected_length
    if loss == "simpo":
        margin = BETA * (chosen - rejected) - GAMMA
        return -0.9 * log_sigmoid(margin) - 0.1 * log_sigmoid(-margin)
    return -BETA * log_sigmoid(log_odds(chosen) - log_odds(rejected))


def text_loss(model: Any) -> Any:
    """ORPO's: the mean over all tokens of the chosen conversations, prompts included."""
    found = [log_probability(model, row.prompt[:1], row.prompt[1:] + row.chosen) for row in ROWS]
    return -sum(logp for logp, _ in found) / sum(count for _, count in found)


def of_labelled(model: Any, before: Any) -> Any:
    mismatched = [(row.prompt, ROWS[at - 1].chosen) for at, row in enumerate(ROWS)]
    ratios = [
        log_probability(model, *each)[0] - log_probability(before, *each)[0] for each in mismatched
    ]
    divergence = mx.stop_gradient(mx.maximum(sum(ratios) / len(ratios), 0))
    total = 0.0
    for row in ROWS:
        ratio = log_probability(model, row.prompt, row.chosen)[0]
        ratio = ratio - log_probability(before, row.prompt, row.chosen)[0]
        above = BETA * (ratio - divergence)
        total += 1.2 * (1 - mx.sigmoid(above)) if row.is_good else 0.8 * (1 - mx.sigmoid(-above))
    return total / len(ROWS)


def written_out(loss: TrainingLoss, model: Any, before: Any) -> Any:
    if loss == "kto":
        return of_labelled(model, before)
    pairs = sum(of_pair(loss, model, before, row) for row in ROWS) / len(ROWS)
    return pairs + (text_loss(model) if loss == "orpo" else 0)


def arrays_of(compute: PreferenceLoss, model: Any, before: Any) -> Any:
    """The batch with its reference and, for KTO, its estimate."""
    split, batch = split_of(ROWS, compute.method)
    if compute.method in ("dpo", "ipo", "kto"):
        arrays = split.arrays(batch)
        logps = np.array(compute.log_probabilities(before, arrays))
        split.keep_reference(batch, logps, other=False)
        if arrays.mismatched is not None:
            others = compute.log_probabilities(before, arrays.mismatched)
            split.keep_reference(batch, np.array(others), other=True)
    arrays = split.arrays(batch)
    if arrays.mismatched is None:
        return arrays
    return arrays.with_estimate(compute.log_probabilities(model, arrays.mismatched))


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("loss", ["dpo", "ipo", "orpo", "simpo", "kto"])
def test_loss_and_gradients_are_those_of_the_formula(
    loss: TrainingLoss, chunked: bool, model: Any, before: Any
) -> None:
    compute = PreferenceLoss(way=Loss(chunked=chunked), method=loss, constants=CONSTANTS)
    arrays = arrays_of(compute, model, before)
    weights = model.trainable_parameters()

    def place(weights: Any) -> Any:
        model.update(weights)
        return model

    expected = mx.value_and_grad(lambda each: written_out(loss, place(each), before))(weights)
    (value, _), gradient = compute.with_gradient(place, weights, arrays)
    model.update(weights)
    assert float(value) == pytest.approx(float(expected[0]), rel=1e-5)
    pairs = zip(tree_flatten(expected[1]), tree_flatten(gradient), strict=True)
    for (name, one), (_, other) in pairs:
        distance, length = (float(mx.linalg.norm(each)) for each in (one - other, one))
        assert distance <= 1e-4 * length, name


def test_figures_are_means_per_answer(model: Any, before: Any) -> None:
    compute = PreferenceLoss(way=Loss(chunked=True), method="dpo", constants=CONSTANTS)
    found = preference_of([compute(model, arrays_of(compute, model, before))[1]], "dpo")
    chosen = [float(log_probability(model, row.prompt, row.chosen)[0]) for row in ROWS]
    earlier = [float(log_probability(before, row.prompt, row.chosen)[0]) for row in ROWS]
    assert found.chosen_logp == pytest.approx(np.mean(chosen), rel=1e-5)
    reward = BETA * (np.mean(chosen) - np.mean(earlier))
    assert found.chosen_reward == pytest.approx(reward, rel=1e-4)
    assert found.chosen_reward is not None
    assert found.rejected_reward is not None
    assert found.margin == found.chosen_reward - found.rejected_reward
    assert found.accuracy in (0, 1 / 3, 2 / 3, 1)
    assert found.kl is None


def test_equal_rewards_count_half(model: Any) -> None:
    compute = PreferenceLoss(way=Loss(chunked=True), method="dpo", constants=CONSTANTS)
    found = preference_of([compute(model, arrays_of(compute, model, model))[1]], "dpo")
    assert (found.accuracy, found.margin) == (0.5, 0)


def test_a_batch_of_bad_answers_has_no_chosen_figures(model: Any, before: Any) -> None:
    split, batch = split_of([Compared([5, 9], [11, 3, 2], None, is_good=False)], "kto")
    compute = PreferenceLoss(way=Loss(chunked=True), method="kto", constants=CONSTANTS)
    found = preference_of([compute(model, split.arrays(batch))[1]], "kto")
    assert (found.chosen_reward, found.chosen_logp, found.margin) == (None, None, None)
    assert found.rejected_reward is not None
    assert found.kl == 0
