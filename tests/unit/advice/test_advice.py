"""Advice on recipes, and on recorded and simulated loss curves."""

import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlxft import recipe as recipes
from mlxft.advice.after_run import after_end, after_validation
from mlxft.advice.before_run import before_run
from mlxft.advice.during_run import PLATEAU_STEPS, SPIKE_BASE, SPIKE_STEPS, during_run
from mlxft.advice.fit import fit
from mlxft.advice.types import Advice, RateChange
from mlxft.recipe import Recipe
from mlxft.text import figures

RECORDED = [
    run
    for run in json.loads(Path(__file__).with_name("recorded_curves.json").read_text()).values()
    if isinstance(run, dict)
]


@dataclass(frozen=True)
class Estimate:
    total: int
    limit: int | None

    @property
    def verdict(self) -> str:
        if self.limit is None:
            return "unknown"
        share = self.total / self.limit
        return "wont_fit" if share > 1 else "tight" if share > 0.85 else "fits"


def estimator(limit: int | None) -> Callable[[Recipe], Estimate]:
    """An estimator: a fixed part, and batch × length × layers, a third of it when checkpointed."""

    def estimate(recipe: Recipe) -> Estimate:
        work = recipe.batch_size * recipe.max_seq_length * recipe.num_layers
        return Estimate(2_000_000 + work * (1 if recipe.grad_checkpoint else 3) * 100, limit)

    return estimate


@dataclass(frozen=True)
class Validated:
    step: int
    loss: float


@dataclass(frozen=True)
class Machine:
    swap_used: int | None = None
    memory_pressure: str | None = None
    gpu_share: float | None = None
    cpu_share: float | None = None


def recipe(**settings: Any) -> Recipe:
    return recipes.from_mapping({"learning_rate": 2e-4, **settings})


def topics(found: list[Advice]) -> list[str]:
    return [each.topic for each in found]


def only(found: list[Advice]) -> Advice:
    assert len(found) == 1, found
    return found[0]


class TestLearningRate:
    """By the model's quantization: 4-bit 2e-4, 8-bit 1e-4, full precision 5e-5 to 1e-4."""

    @pytest.mark.parametrize(
        ("bits", "rate", "suggested"),
        [
            (4, 1e-5, 2e-4),
            (4, 1e-3, 2e-4),
            (8, 1e-5, 1e-4),
            (8, 5e-4, 1e-4),
            (None, 1e-5, 5e-5),
            (None, 5e-4, 1e-4),
        ],
    )
    def test_an_unusual_rate(self, bits: int | None, rate: float, suggested: float) -> None:
        advice = only(before_run(recipe(learning_rate=rate), bits))
        assert advice.topic == "learning_rate"
        assert advice.change == ("learning_rate", suggested)
        assert figures.learning_rate(rate) in advice.evidence

    @pytest.mark.parametrize(
        ("bits", "rate"), [(4, 2e-4), (4, 1e-4), (8, 1e-4), (None, 5e-5), (None, 1e-4)]
    )
    def test_a_usual_rate_gets_no_advice(self, bits: int | None, rate: float) -> None:
        assert before_run(recipe(learning_rate=rate), bits) == []

    @pytest.mark.parametrize("change", [{"learning_rate": 5e-6}, {"iters": 200}])
    def test_a_file_whose_schedule_kept_its_arguments(self, change: dict[str, Any]) -> None:
        written = recipes.to_mapping(recipe(iters=60, lr_schedule={"name": "cosine_decay"}))
        assert before_run(recipes.from_mapping(written), 4) == []
        edited = recipes.from_mapping(written | change)
        advice = only(before_run(edited, 4))
        assert advice.change == ("lr_schedule.arguments", ())

    def test_full_fine_tuning_needs_a_lower_rate(self) -> None:
        advice = only(before_run(recipe(fine_tune_type="full"), None))
        assert advice.change == ("learning_rate", 2e-5)

    def test_the_suggested_rate_is_usual(self) -> None:
        advice = only(before_run(recipe(learning_rate=1e-5), 4))
        assert advice.change is not None
        changed = recipes.replace(recipe(learning_rate=1e-5), *advice.change)
        assert before_run(changed, 4) == []


class TestMemory:
    """What doesn't fit is reduced in the order of what it costs the result."""

    WANTED = recipe(batch_size=4, max_seq_length=2048, num_layers=16)

    def needed(self, **changes: Any) -> int:
        changed = self.WANTED
        for key, value in changes.items():
            changed = recipes.replace(changed, key, value)
        return estimator(None)(changed).total

    def test_what_fits_gets_no_advice(self) -> None:
        assert before_run(self.WANTED, 4, estimator(2 * self.needed())) == []

    def test_tight_memory(self) -> None:
        advice = only(before_run(self.WANTED, 4, estimator(int(1.05 * self.needed()))))
        assert (advice.topic, advice.change) == ("memory", None)

    def test_checkpointing_comes_first(self) -> None:
        limit = self.needed(grad_checkpoint=True) + 1
        advice = only(before_run(self.WANTED, 4, estimator(limit)))
        assert advice.change == ("grad_checkpoint", True)

    def test_then_a_smaller_batch(self) -> None:
        wanted = recipes.replace(self.WANTED, "grad_checkpoint", True)
        limit = estimator(None)(recipes.replace(wanted, "batch_size", 2)).total + 1
        assert only(before_run(wanted, 4, estimator(limit))).change == ("batch_size", 2)

    def test_then_a_shorter_length(self) -> None:
        wanted = recipes.replace(
            recipes.replace(self.WANTED, "grad_checkpoint", True), "batch_size", 1
        )
        limit = estimator(None)(recipes.replace(wanted, "max_seq_length", 512)).total + 1
        assert only(before_run(wanted, 4, estimator(limit))).change == ("max_seq_length", 512)

    def test_several_changes_if_one_is_not_enough(self) -> None:
        limit = self.needed(grad_checkpoint=True, batch_size=1, max_seq_length=1024) + 1
        advice = only(before_run(self.WANTED, 4, estimator(limit)))
        assert advice.change is not None
        for key in ("grad_checkpoint on", "batch_size 1", "max_seq_length"):
            assert key in advice.message

    def test_nothing_fits(self) -> None:
        advice = only(before_run(self.WANTED, 4, estimator(1000)))
        assert advice.change is None
        assert "smaller" in advice.message

    def test_the_fitted_recipe_fits(self) -> None:
        source = random.Random(1)
        for _ in range(50):
            limit = source.randrange(2_100_000, self.needed())
            fitted, changes = fit(self.WANTED, estimator(limit))
            assert fitted is not None
            assert estimator(limit)(fitted).verdict != "wont_fit"
            assert changes

    def test_no_advice_without_a_limit(self) -> None:
        assert before_run(self.WANTED, 4, estimator(None)) == []

    def test_unneeded_checkpointing(self) -> None:
        wanted = recipes.replace(self.WANTED, "grad_checkpoint", True)
        advice = only(before_run(wanted, 4, estimator(10 * self.needed())))
        assert (advice.topic, advice.change) == ("speed", ("grad_checkpoint", False))


class TestData:
    def test_many_epochs(self) -> None:
        wanted = recipe(iters=2000, batch_size=4)
        advice = only(before_run(wanted, 4, train_records=300))
        assert advice.change == ("iters", 225)
        assert "300 records" in advice.evidence

    def test_less_than_an_epoch(self) -> None:
        advice = only(before_run(recipe(iters=100, batch_size=1), 4, train_records=1000))
        assert advice.change == ("iters", 1000)

    def test_three_epochs_are_fine(self) -> None:
        assert before_run(recipe(iters=225, batch_size=4), 4, train_records=300) == []

    def test_a_high_rank_for_few_records(self) -> None:
        wanted = recipe(iters=225, lora_parameters={"rank": 128})
        assert only(before_run(wanted, 4, train_records=300)).change == ("lora_parameters.rank", 8)

    def test_a_batch_larger_than_the_training_set_comes_before_its_memory(self) -> None:
        wanted = recipe(batch_size=64, iters=225)
        advice = before_run(wanted, 4, estimator(1000), train_records=50)
        assert advice[0].change == ("batch_size", 12)
        assert "memory" not in topics(advice)

    def test_fit_lowers_such_a_batch(self) -> None:
        wanted = recipe(batch_size=64, iters=225)
        fitted, changes = fit(wanted, estimator(10**12), train_records=50)
        assert fitted == recipes.replace(wanted, "batch_size", 50)
        assert [(each.key, each.value) for each in changes] == [("batch_size", 50)]

    def test_fit_never_raises_the_batch_above_the_training_set(self) -> None:
        wanted = recipe(batch_size=64, grad_checkpoint=True)
        limit = estimator(None)(recipes.replace(wanted, "batch_size", 25)).total + 1
        fitted, changes = fit(wanted, estimator(limit), train_records=50)
        assert fitted is not None
        assert fitted.batch_size == 25
        assert [each.key for each in changes] == ["batch_size"]


class TestValidationCost:
    def test_frequent_validation(self) -> None:
        wanted = recipe(iters=200, steps_per_eval=10, val_batches=25)
        advice = only(before_run(wanted, 4, valid_records=500))
        assert advice.change == ("steps_per_eval", 50)

    def test_at_the_end_only(self) -> None:
        assert before_run(recipe(iters=200, steps_per_eval=200), 4, valid_records=500) == []
        assert before_run(recipe(iters=200, steps_per_eval=50), 4, valid_records=500) == []

    def test_off(self) -> None:
        wanted = recipe(iters=200, steps_per_eval=1, val_batches=0)
        assert before_run(wanted, 4, valid_records=500) == []


def falling(steps: int, seed: int, noise: float = 0.1, tail: bool = False) -> list[float]:
    """A healthy run: 2.5 falling towards 0.5, with noise and, with `tail`, hard batches."""
    source = random.Random(seed)

    def one(step: int) -> float:
        loss = 0.5 + 2.0 * math.exp(-step / (steps / 2))
        hard = 1.6 if tail and source.random() < 0.05 else 1.0
        return loss * hard * max(0.2, source.gauss(1, noise))

    return [one(step) for step in range(steps)]


def flat(steps: int, seed: int, level: float = 1.2, noise: float = 0.08) -> list[float]:
    source = random.Random(seed)
    return [level * source.gauss(1, noise) for _ in range(steps)]


SEEDS = range(40)


class TestSpike:
    """The rate should be halved."""

    def test_a_jump_is_found_within_five_steps(self) -> None:
        for seed in SEEDS:
            losses = [*falling(200, seed), 3.0, 4.0, 3.5, 4.2, 3.9]
            advice = during_run(losses, learning_rate=2e-4)[0]
            assert (advice.topic, advice.change) == ("spike", ("learning_rate", 1e-4))

    @pytest.mark.parametrize("broken", [math.nan, math.inf])
    def test_a_loss_that_is_not_finite(self, broken: float) -> None:
        advice = during_run([1.0, broken], learning_rate=2e-4)[0]
        assert advice.topic == "spike"

    def test_healthy_runs_rarely_raise_an_alarm(self) -> None:
        """40 runs of 300 steps with 10% noise and hard batches, checked after every step."""
        checks = alarms = 0
        for seed in SEEDS:
            losses = falling(300, seed, tail=True)
            for end in range(SPIKE_BASE + SPIKE_STEPS, 300):
                checks += 1
                alarms += "spike" in topics(during_run(losses[:end]))
        assert alarms <= checks / 1000

    def test_healthy_recorded_runs_raise_no_alarm(self) -> None:
        """Two real runs of 240 steps, one with a batch of 1, whose losses jump the most."""
        for run in RECORDED:
            validations = [Validated(*each) for each in run["validations"]]
            for end in range(1, len(run["losses"]) + 1):
                known = [each for each in validations if each.step <= end]
                found = topics(during_run(run["losses"][:end], known, learning_rate=2e-4))
                assert not {"spike", "overfitting"} & set(found)

    def test_one_hard_batch_is_not_a_spike(self) -> None:
        assert "spike" not in topics(during_run([*flat(60, 1), 9.0, *flat(2, 2)]))

    def test_too_few_steps_get_no_spike_advice(self) -> None:
        assert during_run([1.0, 1.0, 5.0, 5.0, 5.0, 5.0, 5.0]) == []

    def test_a_loss_that_rises_from_the_start(self) -> None:
        slowly = [2.2, 2.3, 2.9, 3.5, 4.0, *[6.0] * 10]
        assert during_run(slowly[:-1]) == []
        advice = only(during_run(slowly, learning_rate=1.0))
        assert (advice.topic, advice.change) == ("spike", ("learning_rate", 0.5))

    def test_a_loss_that_jumps_at_the_second_step(self) -> None:
        """Recorded from the demo with sgd and a learning rate of 1."""
        losses = [4.2, 54, 306, 235, 184, 133, 53, 35, 25, 30, 19, 18, 18, 23, 18, 19, 17, 17]
        advice = only(during_run(losses, learning_rate=1.0))
        assert advice.evidence == "loss 4.200 at first, 18.500 now"

    def test_a_flat_noisy_loss_has_not_risen(self) -> None:
        for seed in SEEDS:
            losses = flat(300, seed, noise=0.3)
            assert not any("spike" in topics(during_run(losses[:end])) for end in range(15, 300, 5))

    def test_no_change_without_a_known_rate(self) -> None:
        assert during_run([1.0, math.nan])[0].change is None


class TestPlateau:
    """The rate should be raised by half."""

    def test_a_flat_loss_is_found(self) -> None:
        seen = 0
        for seed in SEEDS:
            losses = flat(600, seed, noise=0.05)
            seen += any(
                "plateau" in topics(during_run(losses[:end]))
                for end in range(PLATEAU_STEPS, 600, 20)
            )
        assert seen == len(SEEDS)

    def test_the_change(self) -> None:
        advice = only(during_run([1.0] * PLATEAU_STEPS, learning_rate=2e-4))
        assert advice.change == ("learning_rate", pytest.approx(3e-4))

    def test_a_rate_of_0_can_not_be_raised_by_half(self) -> None:
        advice = only(during_run([1.0] * PLATEAU_STEPS, learning_rate=0.0))
        assert "schedule has lowered the learning rate to 0" in advice.message
        assert advice.change is None

    def test_validations_decide_when_steps_are_too_noisy(self) -> None:
        losses = flat(400, 3, noise=0.4)
        still = [Validated(step, 1.2 - step / 1e6) for step in range(50, 401, 50)]
        better = [Validated(step, 1.2 - step / 1e3) for step in range(50, 401, 50)]
        assert topics(during_run(losses)) == []
        advice = only(during_run(losses, still, learning_rate=2e-4))
        assert advice.topic == "plateau"
        assert "until step 200" in advice.evidence
        assert topics(during_run(losses, better)) == []
        assert topics(during_run(losses, still[:5])) == []
        assert topics(during_run(losses, still, changed=RateChange(200, False))) == []

    def test_a_loss_that_falls_ever_more_slowly_is_no_plateau(self) -> None:
        """As with much data: 7% in the second half of 1,000 steps."""
        for seed in range(10):
            source = random.Random(seed)
            losses = [
                (0.9 + 1.5 * (1 + step / 15) ** -0.5) * source.gauss(1, 0.05)
                for step in range(1000)
            ]
            for end in range(PLATEAU_STEPS, 1000, 40):
                assert "plateau" not in topics(during_run(losses[:end]))

    def test_a_falling_loss_raises_no_alarm(self) -> None:
        """40 runs in their first half, where the loss falls by at least 5% in 80 steps."""
        checks = alarms = 0
        for seed in SEEDS:
            losses = falling(300, seed)[:200]
            for end in range(PLATEAU_STEPS, 200, 5):
                checks += 1
                alarms += "plateau" in topics(during_run(losses[:end]))
        assert alarms <= checks / 100

    def test_too_few_steps_get_no_plateau_advice(self) -> None:
        assert during_run([1.0] * (PLATEAU_STEPS - 1)) == []


FALLING = [2.0 - step / 400 for step in range(400)]


class TestOverfitting:
    def test_validation_rising_while_training_falls(self) -> None:
        validations = [
            Validated(100, 1.4),
            Validated(200, 1.2),
            Validated(300, 1.25),
            Validated(400, 1.3),
        ]
        advice = only(during_run(FALLING, validations, learning_rate=2e-4))
        assert (advice.topic, advice.change) == ("overfitting", None)
        assert "step 200" in advice.message

    def test_one_worse_validation_is_not_enough(self) -> None:
        validations = [Validated(100, 1.4), Validated(200, 1.2), Validated(300, 1.3)]
        assert "overfitting" not in topics(during_run(FALLING, validations))

    def test_a_tiny_rise_is_not_worse(self) -> None:
        validations = [Validated(step, 1.2 + step / 1e6) for step in (100, 200, 300)]
        assert "overfitting" not in topics(during_run(FALLING, validations))

    def test_both_losses_rising_is_not_overfitting(self) -> None:
        validations = [Validated(100, 1.2), Validated(200, 1.3), Validated(300, 1.4)]
        assert "overfitting" not in topics(during_run(FALLING[::-1], validations))

    def test_it_excludes_a_plateau(self) -> None:
        validations = [Validated(100, 1.2), Validated(200, 1.3), Validated(300, 1.4)]
        losses = [2.0] * 200 + [1.0] * 200
        assert topics(during_run(losses, validations)) == ["overfitting"]

    def test_a_lowered_rate_gets_time_to_act(self) -> None:
        """Recorded: the loss recovered after the change, from far above the best."""
        validations = [Validated(4, 2.184), Validated(20, 8.917), Validated(24, 6.032)]
        changed = RateChange(22, True)
        assert "overfitting" not in topics(during_run([11.4, 4.6], validations, changed=changed))
        validations += [Validated(28, 4.41), Validated(32, 4.06), Validated(36, 3.88)]
        falling = [8.0 - step / 4 for step in range(14)]
        assert "overfitting" not in topics(during_run(falling, validations, changed=changed))

    def test_after_a_change_the_best_checkpoint_of_all_is_suggested(self) -> None:
        validations = [Validated(step, loss) for step, loss in ((10, 1.0), (30, 1.1), (40, 1.2))]
        changed = RateChange(20, True)
        assert "overfitting" not in topics(during_run(FALLING, validations, changed=changed))
        validations.append(Validated(50, 1.3))
        advice = only(during_run(FALLING, validations, changed=changed))
        assert "checkpoint of step 10" in advice.message
        assert advice.evidence.startswith("validation 1.100 at step 30, 1.300 at step 50")


class TestDiverged:
    """A loss that a lower rate doesn't bring back."""

    DIVERGED = (18.7, 15.7, 13.7, 12.6, 11.9, *[11.5] * 10)
    BEGINNING = (2.3, 2.2, 30.0, 28.0, 26.0)

    def test_a_new_start_once_lowering_the_rate_has_failed(self) -> None:
        changed = RateChange(16, True)
        found = during_run(
            self.DIVERGED,
            recipe=recipe(learning_rate=0.05),
            learning_rate=0.02,
            changed=changed,
            beginning=self.BEGINNING,
        )
        advice = only(found)
        assert (advice.topic, advice.change) == ("diverged", None)
        assert "train again at a lower learning rate of 4e-4" in advice.message
        assert advice.evidence == "loss 2.300 at first, 11.500 now, 15 steps at a lower rate"

    def test_before_that_a_lower_rate(self) -> None:
        losses = [*self.BEGINNING, *[26.0] * 10]
        assert topics(during_run(losses, beginning=self.BEGINNING)) == ["spike"]

    def test_a_raised_rate_is_lowered_first(self) -> None:
        losses = [2.0, 2.1, 9.0, 12.0, 14.0, *[20.0] * 10]
        changed = RateChange(16, False)
        found = topics(during_run(losses, changed=changed, beginning=self.BEGINNING))
        assert found == ["spike"]

    def test_a_recovered_loss_has_not_diverged(self) -> None:
        losses = [9.0, 6.0, 4.0, 3.0, 2.5, *[2.0] * 10]
        changed = RateChange(16, True)
        assert topics(during_run(losses, changed=changed, beginning=self.BEGINNING)) == []

    def test_a_gradient_of_0_has_diverged(self) -> None:
        losses = [2.3, 40.0, 10.803, 10.803, 10.803, *[10.803] * 10]
        advice = only(during_run(losses, learning_rate=10.0, gradients=[0.0] * 20))
        assert advice.topic == "diverged"
        assert "the gradient is 0" in advice.evidence

    def test_no_higher_rate_for_a_flat_loss_above_its_beginning(self) -> None:
        """As after raising the rate manually far too often."""
        changed = RateChange(16, False)
        flat_losses = [5.768] * PLATEAU_STEPS
        assert topics(during_run(flat_losses, changed=changed, beginning=[1.55] * 5)) == []
        assert topics(during_run(flat_losses, changed=changed, beginning=[6.0] * 5)) == ["plateau"]

    def test_a_finished_run_that_has_diverged(self) -> None:
        advice = after_end(2.329, 10.852, recipe(learning_rate=10.0))
        assert advice is not None
        assert "worse than the base" in advice.message
        assert after_end(2.329, 2.5, recipe()) is None

    def test_a_run_that_ends_above_its_baseline(self) -> None:
        assert after_validation(2.3, 0.5) is None
        advice = after_validation(2.3, 2.4)
        assert advice is not None
        assert advice.evidence == "validation 2.300 before, 2.400 at best"

    def test_the_baseline_is_no_sign_of_overfitting_or_a_plateau(self) -> None:
        losses = [2.0 - step / 100 for step in range(100)]
        found = [Validated(0, 1.0), *(Validated(step, 1.2) for step in (20, 40))]
        assert topics(during_run(losses, found)) == []

    def test_a_preference_is_trained_at_a_tenth_of_the_rate(self) -> None:
        advice = only(before_run(recipe(learning_rate=1e-4, loss="dpo"), None))
        assert advice.change == ("learning_rate", 1e-5)
        assert "5e-6 to 1e-5 is usual for dpo and a full-precision model" in advice.message
        assert before_run(recipe(learning_rate=1e-5, loss="dpo"), None) == []

    def test_no_trained_token_is_refused(self) -> None:
        masked = recipe(train_on="last_answer")
        (found, *_) = before_run(masked, None, train_records=900, trains_nothing=True)
        assert found.message.endswith("the run would be refused.")
        assert found.change == ("train_on", "everything")

    def test_few_and_contradictory_records(self) -> None:
        wanted = recipe(iters=30, learning_rate=1e-4)
        known = {"train_records": 30, "steps_per_epoch": 8}
        found = [each.message for each in before_run(wanted, None, **known, contradictions=4)]
        assert any("answer the same prompt differently" in each for each in found)
        assert any(each.startswith("Add records, 50 or") for each in found)
        known = {"train_records": 60, "steps_per_epoch": 15}
        assert not before_run(wanted, None, **known)

    def test_an_easy_first_batch_is_not_divergence(self) -> None:
        assert after_end(0.2, 0.527, recipe()) is None
        noisy = [0.47, 0.4, 0.5, 0.45, 0.48, *[1.02] * 40]
        changed = RateChange(5, True)
        assert "diverged" not in topics(during_run(noisy, changed=changed, beginning=noisy[:5]))


class TestMachine:
    def test_swap_that_grows(self) -> None:
        samples = [Machine(swap_used=10**9), Machine(swap_used=None), Machine(swap_used=3 * 10**9)]
        advice = only(during_run([], samples=samples))
        assert advice.topic == "swap"
        assert "1.0 to 3.0 GB" in advice.evidence

    def test_swap_that_was_there_before(self) -> None:
        assert during_run([], samples=[Machine(swap_used=9 * 10**9)] * 5) == []

    def test_critical_pressure(self) -> None:
        assert (
            only(during_run([], samples=[Machine(memory_pressure="critical")])).topic == "pressure"
        )

    def test_pressure_at_warning_once_it_lasts(self) -> None:
        samples = [Machine(memory_pressure="warning")] * 10
        advice = only(during_run([], samples=samples, recipe=recipe(grad_checkpoint=False)))
        assert advice.topic == "pressure"
        assert "grad_checkpoint on" in advice.message
        assert during_run([], samples=[*samples[:-1], Machine(memory_pressure="normal")]) == []
        assert during_run([], samples=samples[:-1]) == []

    def test_a_gpu_that_waits(self) -> None:
        assert only(during_run([], samples=[Machine(gpu_share=0.2)] * 10)).topic == "speed"

    def test_a_gpu_that_waits_for_the_cpu(self) -> None:
        advice = only(during_run([], samples=[Machine(gpu_share=0.2, cpu_share=0.97)] * 10))
        assert "waits for the CPU" in advice.message
        assert "97%" in advice.evidence

    def test_the_mildest_reduction_of_this_recipe_is_suggested(self) -> None:
        samples = [Machine(swap_used=0), Machine(swap_used=3 * 10**9)]
        first = only(during_run([], samples=samples, recipe=recipe(grad_checkpoint=False)))
        then = only(during_run([], samples=samples, recipe=recipe(grad_checkpoint=True)))
        assert "grad_checkpoint on" in first.message
        assert "batch_size 2" in then.message

    def test_steps_that_block_a_macs_display(self) -> None:
        advice = only(during_run([], metal_seconds=[6.0] * 20))
        assert (advice.topic, advice.evidence) == (
            "display",
            "a step takes 6.0 s on this Mac's GPU",
        )
        assert during_run([], metal_seconds=[0.5] * 19 + [60.0]) == []

    def test_no_advice_for_a_busy_gpu_or_none(self) -> None:
        assert during_run([], samples=[Machine(gpu_share=0.95)] * 10) == []
        assert during_run([], samples=[Machine()] * 10) == []
