"""Runs that train a preference: exact, also when resumed, packed, accumulated or full."""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
import pytest

from mlxft.errors import DataError, RecipeError
from mlxft.runs import events as ev
from support.training import MakeRun, Run, stop_after

PAIRS = [
    {
        "prompt": f"Turn on {number} lamp in the kitchen",
        "chosen": f'{{"action": "turn_on", "n": {number}}}',
        "rejected": "The capital of Italy " * (1 + number % 3) + str(number),
    }
    for number in range(9)
]
LABELLED = [
    {"prompt": each["prompt"], "completion": each[side], "label": side == "chosen"}
    for each in PAIRS
    for side in ("chosen", "rejected")
]


def written(folder: Path, records: list[dict[str, object]], valid: int = 3) -> str:
    folder.mkdir()
    for name, part in (("train", records[valid:]), ("valid", records[:valid])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(e) + "\n" for e in part))
    return f"data={folder}"


@pytest.fixture
def pairs(tmp_path: Path) -> str:
    return written(tmp_path / "pairs", PAIRS)


FULL_OF_STATE = (
    "iters=7",
    "learning_rate=5e-3",
    "lora_parameters.dropout=0.2",
    "grad_accumulation_steps=2",
    "lr_schedule.name=cosine_decay",
    "val_batches=-1",
    "steps_per_eval=3",
    "grad_checkpoint=true",
)


class TestRuns:
    @pytest.mark.parametrize("loss", ["dpo", "orpo", "kto"])
    def test_a_resume_is_bit_exact(self, make_run: MakeRun, tmp_path: Path, loss: str) -> None:
        data = written(tmp_path / "data", LABELLED if loss == "kto" else PAIRS)
        settings = (*FULL_OF_STATE, data, f"loss={loss}")
        whole, parts = make_run(*settings), make_run(*settings)
        whole.train()
        for stop in (1, 4):
            parts.train(stop_after(stop))
        parts.train()
        assert parts.losses == whole.losses[4:]
        assert parts.adapter() == whole.adapter()
        last = [run.of(ev.ValidationFinished)[-1].preference for run in (parts, whole)]
        assert last[0] == last[1] is not None

    def test_a_resume_without_the_kept_reference_is_bit_exact(
        self, make_run: MakeRun, pairs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings = (pairs, "loss=dpo", "iters=6", "fine_tune_type=full", "learning_rate=5e-3")
        whole, parts = make_run(*settings), make_run(*settings)
        monkeypatch.setenv("MLXFT_CACHE", str(tmp_path / "one"))
        whole.train()
        parts.train(stop_after(2))
        monkeypatch.setenv("MLXFT_CACHE", str(tmp_path / "another"))
        parts.train()
        assert parts.adapter() == whole.adapter()

    def test_the_reference_is_computed_once(self, make_run: MakeRun, pairs: str) -> None:
        first, second = (make_run(pairs, "loss=dpo", f"learning_rate={lr}") for lr in (1e-3, 2e-3))
        for run in (first, second):
            run.train()
        passes = [
            [each for each in run.of(ev.ProgressMade) if each.stage == "reference"]
            for run in (first, second)
        ]
        assert [len(each) for each in passes] == [3, 0]

    def test_a_stop_ends_the_reference_pass_and_keeps_it(
        self, make_run: MakeRun, pairs: str
    ) -> None:
        run = make_run(pairs, "loss=dpo")

        def passes() -> list[int]:
            found = run.of(ev.ProgressMade)
            return [each.done for each in found if each.stage == "reference"]

        run.train(lambda session: session.request_stop() if len(passes()) == 2 else None)
        assert passes() == [0, 1]
        run.train()
        assert passes() == [1, 2]

    def test_it_learns_the_preference(self, make_run: MakeRun, pairs: str) -> None:
        run = make_run(
            pairs,
            "loss=dpo",
            "iters=30",
            "learning_rate=5e-3",
            "val_batches=-1",
            "val_at_start=true",
        )
        run.train()
        before, after = (run.of(ev.ValidationFinished)[at].preference for at in (0, -1))
        assert before is not None
        assert after is not None
        assert (before.accuracy, before.margin) == (0.5, 0)
        assert after.accuracy == 1
        steps = run.of(ev.StepFinished)
        assert all(each.preference is not None for each in steps)
        assert steps[-1].loss < steps[0].loss

    def test_it_trains_the_head_too(self, make_run: MakeRun, pairs: str) -> None:
        run = make_run(pairs, "loss=dpo", "train_embeddings=all", "learning_rate=1e-3", "iters=20")
        run.train()
        # Steps train different pairs, so one loss says little.
        assert sum(run.losses[-5:]) < 5 * 0.9 * run.losses[0]

    def test_packed_pairs_have_the_losses_that_they_have_alone(
        self, make_run: MakeRun, pairs: str
    ) -> None:
        apart = make_run(pairs, "loss=dpo", "batch_size=6", "iters=2", "learning_rate=1e-2")
        packed = make_run(
            pairs,
            "loss=dpo",
            "batch_size=6",
            "iters=2",
            "learning_rate=1e-2",
            "packing=true",
            "max_seq_length=128",
        )
        for run in (apart, packed):
            run.train()
        assert packed.of(ev.DataPrepared)[0].rows < 6
        assert packed.losses == pytest.approx(apart.losses, rel=1e-4)

    def test_accumulated_pairs_equal_a_larger_batch(self, make_run: MakeRun, pairs: str) -> None:
        settings = (pairs, "loss=dpo", "optimizer=sgd", "learning_rate=0.1")
        together = make_run(*settings, "batch_size=6", "iters=1")
        apart = make_run(*settings, "batch_size=2", "iters=3", "grad_accumulation_steps=3")
        for run in (together, apart):
            run.train()
        assert total_size(together) == pytest.approx(total_size(apart), rel=1e-6)


def total_size(run: Run) -> float:
    """The sum of all sizes of the adapter's values."""
    arrays = mx.load(str(run.directory.adapter_file))
    assert isinstance(arrays, dict)
    return sum(float(mx.abs(each).sum()) for each in arrays.values())


class TestRefusals:
    @pytest.mark.parametrize(
        ("records", "loss", "reason"),
        [
            ([{"prompt": "a", "completion": "b"}] * 9, "dpo", "no rejected answer"),
            (LABELLED, "simpo", "one answer with a label.*set loss to kto"),
            ([{"prompt": "a", "completion": "b"}] * 9, "kto", "neither that its answer is good"),
            (
                [{"prompt": "a", "chosen": "b", "rejected": "b"}] * 9,
                "orpo",
                "the chosen and the rejected answer are the same",
            ),
            (
                [{"prompt": "a", "chosen": "b", "rejected": ""}] * 9,
                "dpo",
                "with the rejected answer, .* is empty",
            ),
        ],
    )
    def test_data_that_do_not_suit_the_loss(
        self,
        make_run: MakeRun,
        tmp_path: Path,
        records: list[dict[str, object]],
        loss: str,
        reason: str,
    ) -> None:
        with pytest.raises(DataError, match=reason):
            make_run(written(tmp_path / "data", records), f"loss={loss}").session().prepare()

    @pytest.mark.parametrize(
        ("setting", "loss", "key"),
        [
            ("overlong=split", "dpo", "overlong"),
            ("packing=true", "kto", "packing"),
            ("batch_size=1", "kto", "batch_size"),
        ],
    )
    def test_settings_that_do_not_suit_the_loss(
        self, make_run: MakeRun, pairs: str, setting: str, loss: str, key: str
    ) -> None:
        with pytest.raises(RecipeError, match=rf"^{key} is .*; set {key} to"):
            make_run(pairs, setting, f"loss={loss}").session().prepare()
