"""Several ranks that deal a batch among them train what one does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from safetensors.numpy import load

from mlxft.compute.training.messages import broadcast
from mlxft.compute.training.place import Place, drawn
from mlxft.compute.training.ranked_step import RankedStepper
from mlxft.compute.training.session import TrainingSession
from mlxft.runs import events as ev
from support.ranks import PretendedRanks
from support.training import MakeRun, Run, stop_after

LINEAR = ("optimizer=sgd", "learning_rate=0.1")
"""Adam divides a gradient by its own size, and so makes the last digit of a tiny one count."""

DROPS = ("lora_parameters.dropout=0.3", "neftune_noise_alpha=5")

ACCUMULATED = ("grad_accumulation_steps=2", "grad_accumulation_by=tokens")


def answers(folder: Path, *, labelled: bool) -> str:
    """A data folder of answers to compare."""
    folder.mkdir()
    for split, count in (("train", 10), ("valid", 3)):
        lines = []
        for n in range(count):
            own = f"Lamp {n} is on" + "!" * (n % 4)
            compared: dict[str, Any] = {"chosen": own, "rejected": "No. " * (1 + n % 5)}
            judged = {"completion": own, "label": n % 3 > 0}
            lines.append(json.dumps({"prompt": f"Lamp {n}", **(judged if labelled else compared)}))
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return str(folder)


def figures(run: Run) -> list[float]:
    """All losses, gradient norms and figures of a preference of a run."""
    found: list[float] = []
    for event in run.events:
        if isinstance(event, (ev.StepFinished, ev.ValidationFinished)):
            found += [event.loss, event.tokens]
            found += [event.gradient_norm or 0] if isinstance(event, ev.StepFinished) else []
            if (said := event.preference) is not None:
                found += [said.margin or 0, said.accuracy, said.chosen_logp or 0, said.kl or 0]
    return found


@pytest.fixture
def train_by(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Trains a run by so many ranks in this process, perhaps only until a step."""

    def train(run: Run, count: int, until: int = 1000) -> None:
        ranks = PretendedRanks(count)
        run.events.clear()
        monkeypatch.setattr(RankedStepper, "lead", _noting(RankedStepper.lead, ranks))
        session = TrainingSession(
            run.recipe,
            run.directory,
            run.events.append,
            at_safe_point=lambda: stop_after(until)(session),
            earlier=run.earlier,
            ranks=ranks,
        )
        session.prepare()
        session.run()
        monkeypatch.undo()

    return train


def _noting(lead: Any, ranks: PretendedRanks) -> Any:
    def noted(stepper: RankedStepper, others: Any) -> None:
        ranks.leader = stepper
        lead(stepper, others)

    return noted


class TestDistributedSteps:
    @pytest.mark.parametrize(
        ("count", "settings"),
        [
            pytest.param(
                3,
                ("batch_size=4", *DROPS, *ACCUMULATED, "max_grad_norm=0.5"),
                id="uneven, accumulated and clipped",
            ),
            pytest.param(4, ("batch_size=2", "fine_tune_type=full"), id="ranks without a row"),
            pytest.param(2, ("packing=true", "max_seq_length=80", *DROPS), id="packed"),
            pytest.param(
                2, ("fine_tune_type=dora", "grad_checkpoint=true", *DROPS), id="recomputed"
            ),
            pytest.param(2, ("loss=dpo", *DROPS), id="dpo"),
            pytest.param(3, ("loss=orpo", "packing=true", *DROPS), id="orpo, packed"),
            pytest.param(2, ("loss=kto", "batch_size=3"), id="kto"),
        ],
    )
    def test_equal_those_of_one_rank(
        self,
        make_run: MakeRun,
        train_by: Any,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        count: int,
        settings: tuple[str, ...],
    ) -> None:
        more = ["val_batches=-1", "steps_per_eval=3", "iters=4", *LINEAR]
        if settings[0].startswith("loss="):
            labelled = settings[0] == "loss=kto"
            more.append(f"data={answers(tmp_path / 'answers', labelled=labelled)}")
        one, several = make_run(*more, *settings), make_run(*more, *settings)
        one.train()
        if "fine_tune_type=full" in settings:
            # Of gradients that are too large for one message.
            monkeypatch.setattr("mlxft.compute.training.messages.LARGEST_MESSAGE", 3000)
        # The reference is found again.
        monkeypatch.setenv("MLXFT_CACHE", str(tmp_path / "other"))
        train_by(several, count)
        assert figures(several) == pytest.approx(figures(one), abs=2e-5, rel=1e-5)
        mine, theirs = load(one.adapter()), load(several.adapter())
        assert mine.keys() == theirs.keys()
        for name, array in mine.items():
            np.testing.assert_allclose(theirs[name], array, atol=1e-5, err_msg=name)

    def test_a_resume_by_as_many_is_bit_exact(self, make_run: MakeRun, train_by: Any) -> None:
        """Also while a gradient waits for an update."""
        settings = ("batch_size=4", *DROPS, *ACCUMULATED)
        whole, parts = make_run(*settings), make_run(*settings)
        train_by(whole, 2)
        train_by(parts, 2, until=3)
        train_by(parts, 2)
        assert parts.adapter() == whole.adapter()
        assert "Processes: 2 as before" in parts.of(ev.OperationsChosen)[0].reasons[-1]


class TestBroadcast:
    @pytest.mark.parametrize(("largest", "count"), [(2**22, 1), (4, 5)])
    def test_every_bit_arrives_in_few_messages(
        self, monkeypatch: pytest.MonkeyPatch, largest: int, count: int
    ) -> None:
        monkeypatch.setattr("mlxft.compute.training.messages.SENT_AT_ONCE", largest)
        arrays = {
            "odd": mx.array([1.5, -0.0, float("nan")], mx.bfloat16),
            "matrix": mx.random.normal((2, 5)),
            "step": mx.array(7, mx.uint64),
        }
        messages: list[mx.array] = []
        for _ in broadcast(arrays, lambda own: messages.append(own) or own, sends=True):
            pass
        assert len(messages) == count
        empty = {name: mx.zeros_like(array) for name, array in arrays.items()}
        received: dict[str, mx.array] = {}
        for some in broadcast(empty, lambda own: own + messages.pop(0), sends=False):
            received |= some
        for name, array in arrays.items():
            assert received[name].shape == array.shape
            assert bytes(memoryview(received[name])) == bytes(memoryview(array)), name


class TestPlace:
    def test_the_parts_of_pairs_are_those_of_the_whole(self) -> None:
        """Rows 0 to 3 are chosen answers, 4 to 7 the rejected ones."""

        def draw(shape: Any) -> mx.array:
            return mx.random.uniform(shape=shape, key=mx.random.key(7))

        whole = np.asarray(draw((8, 6, 3)))
        part = drawn(draw, (4, 5, 3), Place(first=1, own=2, rows=4, length=6, blocks=2))
        assert np.array_equal(np.asarray(part), whole[[1, 2, 5, 6], :5])
