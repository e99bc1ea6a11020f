"""How long a run will take, from past runs or from the chip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlxft import recipe as recipes
from mlxft.duration.expectation import (
    Expectation,
    PastRun,
    RowSummary,
    expect,
    past_runs,
    rows_of_files,
)
from mlxft.hosts.link import Link
from mlxft.memory.estimator import trained_parameters
from mlxft.memory.shapes import ModelShapes
from mlxft.recipe import Recipe
from mlxft.runs.events import BackendReady, DataPrepared, RanksJoined, StepFinished
from mlxft.runs.history import History
from support.journal import backend, data_prepared, ended, trained_run, write_run
from support.records import SMOLLM2

RECIPE = Recipe(model="models/small", iters=100, val_batches=0)
SHAPES = ModelShapes.from_config(SMOLLM2)

LLAMA_7B: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 32000,
    "tie_word_embeddings": False,
}
MISTRAL_7B: dict[str, Any] = {
    **LLAMA_7B,
    "model_type": "mistral",
    "intermediate_size": 14336,
    "num_key_value_heads": 8,
}
LLAMA_3B: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 28,
    "num_attention_heads": 24,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 128256,
    "quantization": {"bits": 4, "group_size": 64},
}


def expected_of(recipe: Recipe, runs: Sequence[PastRun], **known: Any) -> Expectation:
    found = expect(recipe, runs, **known)
    assert found is not None
    return found


class TestPastRuns:
    @pytest.fixture
    def runs(self, tmp_path: Path) -> tuple[PastRun, ...]:
        """One run of ten steps, each 400 tokens in half a second."""
        write_run(tmp_path, RECIPE, trained_run(RECIPE, 10))
        return past_runs(History(tmp_path).poll() or ())

    def test_steps_are_scaled_by_the_batch(self, runs: tuple[PastRun, ...]) -> None:
        expected = expected_of(recipes.replace(RECIPE, "batch_size", 8), runs)
        assert expected.seconds == pytest.approx(100)
        assert expected.tokens_per_second == pytest.approx(800)

    def test_runs_of_another_model_are_ignored(self, runs: tuple[PastRun, ...]) -> None:
        assert expect(Recipe(model="models/large"), runs) is None

    def test_runs_of_another_device_are_ignored(self, tmp_path: Path) -> None:
        write_run(tmp_path, RECIPE, [backend(), *trained_run(RECIPE, 10)])
        runs = past_runs(History(tmp_path).poll() or ())
        here = BackendReady(device="Another", kind="cuda")
        assert expect(RECIPE, runs, SHAPES, here) is None

    def test_more_layers_than_the_run_had_take_longer(self, runs: tuple[PastRun, ...]) -> None:
        seconds = [
            expected_of(recipes.replace(RECIPE, "num_layers", layers), runs, shapes=SHAPES).seconds
            for layers in (1, 16, 30)
        ]
        assert seconds == sorted(seconds)
        assert seconds[1] == pytest.approx(50)
        assert seconds[2] > 1.2 * seconds[1]

    def test_checkpointing_is_converted_from_a_run_without_it(
        self, runs: tuple[PastRun, ...]
    ) -> None:
        slower = recipes.replace(RECIPE, "grad_checkpoint", True)
        assert expected_of(slower, runs, shapes=SHAPES).seconds > 55
        assert expect(slower, runs) is None

    def test_a_stopped_and_resumed_run_is_one_run(self, tmp_path: Path) -> None:
        halves = [*trained_run(RECIPE, 4), ended(4, "stopped"), *trained_run(RECIPE, 6, start=4)]
        write_run(tmp_path, RECIPE, halves)
        (past,) = past_runs(History(tmp_path).poll() or ())
        assert (past.steps, past.step_seconds, past.trained_tokens) == (10, 0.5, 400)
        assert expected_of(RECIPE, [past]).spread == pytest.approx(1)

    def test_rank_and_dora_take_longer(self, runs: tuple[PastRun, ...]) -> None:
        """The run had rank 8: 64 costs as much more as its adapter has parameters."""

        def seconds(*settings: str, tokens: float = 400.0) -> float:
            changed = recipes.apply_settings(RECIPE, settings)
            rows = RowSummary(tokens / RECIPE.batch_size)
            here = BackendReady(device="Xeon", kind="cpu", gflops=50.0)
            return expected_of(changed, (), shapes=SHAPES, backend=here, rows=rows).seconds

        plain, high = seconds(), seconds("rank=64")
        # 56 more ranks of 4.9 million parameters per 8, in three passes of 16 of 30 blocks.
        assert 1.1 < high / plain < 1.6
        dora, short = seconds("fine_tune_type=dora"), seconds("fine_tune_type=dora", tokens=40.0)
        assert 1.01 < dora / plain < 1.2
        # The norms don't shrink with the tokens.
        assert short / seconds(tokens=40.0) > dora / plain
        converted = expected_of(recipes.replace(RECIPE, "rank", 64), runs, shapes=SHAPES)
        assert converted.seconds > 1.1 * 50

    def test_longer_rows_take_longer(self, tmp_path: Path) -> None:
        events = trained_run(RECIPE, 10)
        write_run(tmp_path, RECIPE, [events[0], data_prepared(longest=60), *events[1:]])
        runs = past_runs(History(tmp_path).poll() or ())
        assert runs[0].row == 30
        longer = expected_of(RECIPE, runs, shapes=SHAPES, rows=RowSummary(60.0))
        assert longer.seconds == pytest.approx(100)

    def test_packed_rows_are_counted_as_rows(self, tmp_path: Path) -> None:
        prepared = data_prepared(longest=60)
        assert isinstance(prepared, DataPrepared)
        packed = msgspec.structs.replace(prepared, rows=10)
        write_run(tmp_path, RECIPE, [packed, *trained_run(RECIPE, 10)])
        assert past_runs(History(tmp_path).poll() or ())[0].row == 900

    def test_validations_are_counted(self, runs: tuple[PastRun, ...]) -> None:
        validating = recipes.apply_settings(RECIPE, ["val_batches=-1", "steps_per_eval=10"])
        expected = expected_of(validating, runs, shapes=SHAPES, rows=RowSummary(valid_rows=40))
        assert expected.seconds == pytest.approx(50 + expected.validating)
        # Ten validations of ten batches, each less work than a step.
        assert 10 < expected.validating < 50

    def test_the_spread_includes_the_parts_of_a_run(self, tmp_path: Path) -> None:
        steady, uneven = trained_run(RECIPE, 40), trained_run(RECIPE, 40)
        write_run(tmp_path / "a", RECIPE, steady)
        uneven = [
            msgspec.structs.replace(each, seconds=1.0)
            if isinstance(each, StepFinished) and each.step > 30
            else each
            for each in uneven
        ]
        write_run(tmp_path / "b", RECIPE, uneven)
        spreads = [
            expected_of(RECIPE, past_runs(History(tmp_path / name).poll() or ())).spread
            for name in "ab"
        ]
        assert spreads[0] == pytest.approx(1)
        assert spreads[1] == pytest.approx(1.6)


class TestChips:
    """Published speeds lie within the expected range."""

    @pytest.mark.parametrize(
        ("config", "device", "settings", "measured"),
        [
            # mlx-examples/lora and mlx-lm's LORA.md, on WikiSQL
            (LLAMA_7B, "Apple M2 Ultra", "batch_size=4 num_layers=16", 475),
            (MISTRAL_7B, "Apple M1 Max", "batch_size=1 num_layers=4", 250),
            # one user's notes
            (LLAMA_3B, "Apple M3 Pro", "batch_size=4 num_layers=1 grad_checkpoint=yes", 170),
        ],
    )
    def test_a_published_speed_is_within_the_spread(
        self, config: dict[str, Any], device: str, settings: str, measured: float
    ) -> None:
        recipe = recipes.apply_settings(Recipe(), settings.split())
        shapes = ModelShapes.from_config(config)
        here = BackendReady(device=device, kind="metal")
        expected = expected_of(recipe, (), shapes=shapes, backend=here, rows=RowSummary(100.0))
        assert expected.tokens_per_second / expected.spread <= measured
        assert measured <= expected.tokens_per_second * expected.spread

    @pytest.mark.parametrize("family", ["M1", "M2", "M3", "M4", "M5"])
    def test_every_family_is_listed_and_a_larger_chip_is_faster(self, family: str) -> None:
        speeds = [
            expected_of(
                RECIPE,
                (),
                shapes=SHAPES,
                backend=BackendReady(device=f"Apple {family}{size}", kind="metal"),
            ).tokens_per_second
            for size in ("", " Pro", " Max")
        ]
        assert speeds == sorted(speeds)

    def test_an_unlisted_chip_has_no_expectation(self) -> None:
        here = BackendReady(device="Apple M99", kind="metal")
        assert expect(RECIPE, (), SHAPES, here) is None

    def test_a_cpu_is_estimated_from_its_measured_speed(self) -> None:
        slow, fast = (
            expected_of(
                RECIPE,
                (),
                shapes=SHAPES,
                backend=BackendReady(device="Xeon", kind="cpu", gflops=gflops),
            )
            for gflops in (5.0, 150.0)
        )
        assert slow.seconds == pytest.approx(30 * fast.seconds)
        assert "150 GFLOP/s" in fast.source

    def test_only_trained_tokens_count_as_speed(self) -> None:
        here = BackendReady(device="Apple M3", kind="metal")
        whole = expected_of(RECIPE, (), shapes=SHAPES, backend=here, rows=RowSummary(100.0))
        third = expected_of(
            RECIPE, (), shapes=SHAPES, backend=here, rows=RowSummary(100.0, trained_share=1 / 3)
        )
        assert third.seconds == whole.seconds
        assert third.tokens_per_second == pytest.approx(whole.tokens_per_second / 3)


class TestRanks:
    """The time of several ranks: their rows at one rank's pace, and the sum of the gradients."""

    LINK = Link(latency=1e-3, bandwidth=1e8)
    JOINED = RanksJoined(hosts=["a", "b"], backend="ring", link=LINK, message=1, seconds=0.1)

    def run(self, folder: Path, *settings: str, joined: bool = False) -> tuple[PastRun, ...]:
        recipe = recipes.apply_settings(RECIPE, settings)
        began, *steps = trained_run(recipe, 10)
        write_run(folder, recipe, [began, *([self.JOINED] if joined else []), *steps])
        return past_runs(History(folder).poll() or ())

    def seconds(self, runs: Sequence[PastRun], *settings: str) -> float:
        recipe = recipes.apply_settings(RECIPE, settings)
        return expected_of(recipe, runs, shapes=SHAPES).seconds

    def test_two_machines_take_half_of_one_where_the_link_is_not_known(
        self, tmp_path: Path
    ) -> None:
        runs = self.run(tmp_path)
        two = "hosts=a, b"
        assert self.seconds(runs, two) == pytest.approx(self.seconds(runs) / 2, rel=0.01)
        assert self.seconds(runs, two, "batch_size=3") == pytest.approx(
            self.seconds(runs, "batch_size=2"), rel=0.01
        )

    @pytest.mark.parametrize(("kind", "share"), [("metal", 1), ("cpu", 1), ("cuda", 1 / 2)])
    def test_processes_of_one_machine_gain_only_by_gpus_of_their_own(
        self, kind: Any, share: float
    ) -> None:
        here = BackendReady(device="Apple M3 Max", kind=kind, gflops=100.0)

        def seconds(recipe: Recipe) -> float:
            return expected_of(recipe, (), shapes=SHAPES, backend=here).seconds

        two = recipes.replace(RECIPE, "hosts", 2)
        assert seconds(two) == pytest.approx(share * seconds(RECIPE), rel=0.01)

    def test_the_measured_link_is_taken_from_their_own_run_and_added_to_others(
        self, tmp_path: Path
    ) -> None:
        runs = self.run(tmp_path, "hosts=a, b", joined=True)
        (past,) = runs
        exchange = past.exchange(SHAPES)
        message = 4 * trained_parameters(SHAPES, RECIPE)
        assert exchange == pytest.approx(2e-3 + message / 1e8)
        own = past.step_seconds - exchange
        assert self.seconds(runs, "hosts=a, b") == pytest.approx(100 * past.step_seconds)
        assert self.seconds(runs) == pytest.approx(100 * 2 * own, rel=0.01)
        assert self.seconds(runs, "hosts=a, b", "batch_size=8") == pytest.approx(
            100 * (2 * own + exchange), rel=0.01
        )


class TestReference:
    """The forward passes that find what DPO, IPO and KTO compare with."""

    DPO = recipes.replace(RECIPE, "loss", "dpo")

    def validating(self, recipe: Recipe, rows: RowSummary, runs: Sequence[PastRun] = ()) -> float:
        here = BackendReady(device="CPU", kind="cpu", gflops=50.0)
        found = expected_of(recipe, runs, shapes=SHAPES, backend=here, rows=rows)
        return found.validating / found.seconds

    def test_it_is_found_once_however_many_epochs_follow(self) -> None:
        known = rows_of_files(self.DPO, train_records=40, valid_records=0)
        passes = {
            iters: self.validating(recipes.replace(self.DPO, "iters", iters), known)
            for iters in (10, 100)
        }
        # Measured with SmolLM2's shape on two cores: a forward pass took 0.60 of a step.
        assert passes[10] == pytest.approx(0.60 / 1.60, abs=0.02)
        assert passes[100] == pytest.approx(0.06 / 1.06, abs=0.005)

    def test_what_an_earlier_run_has_found_is_kept(self, tmp_path: Path) -> None:
        write_run(tmp_path, self.DPO, trained_run(self.DPO, 10))
        runs = past_runs(History(tmp_path).poll() or ())
        known = rows_of_files(self.DPO, train_records=40, valid_records=0)
        assert self.validating(recipes.replace(self.DPO, "learning_rate", 1e-6), known, runs) == 0
        assert self.validating(recipes.replace(self.DPO, "seed", 1), known, runs) > 0
