"""Kernels of compiled steps are made beside a run, which then compiles its steps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlxft.compute import backend
from mlxft.compute.arrays import named_arrays
from mlxft.compute.measuring import model_folder
from mlxft.compute.measuring.random_models import attached
from mlxft.compute.models import adapters
from mlxft.compute.training import choices, kernel_making, operations, optimizers
from mlxft.compute.training.batches import batch_arrays
from mlxft.compute.training.gradient_checkpointing import checkpointed
from mlxft.compute.training.kernel_making import MakeKernels, shortened
from mlxft.compute.training.loss import plain_loss
from mlxft.compute.training.step import Stepper
from mlxft.recipe import Recipe, apply_settings
from mlxft.runs import events as ev
from support.architectures import RECURRENT
from support.training import MakeRun, Run, stop_after, write_records

_QWEN = {
    **RECURRENT["qwen3_5"],
    "num_hidden_layers": 8,
    "full_attention_interval": 2,
    "max_position_embeddings": 512,
}


class Maker:
    """Notes its order; a test says what has come of it."""

    def __init__(self, why: str | None = None) -> None:
        self.orders: list[MakeKernels] = []
        self.made: bool | None = None
        self._why = why

    def start(self, order: MakeKernels) -> str | None:
        self.orders.append(order)
        return self._why


@pytest.fixture(autouse=True)
def of_a_new_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Choices of steps are those on an NVIDIA GPU, whose kernels aren't made."""
    (tmp_path / "ptx").mkdir()
    monkeypatch.setenv("MLX_PTX_CACHE_DIR", str(tmp_path / "ptx"))
    monkeypatch.setenv("MLXFT_STATE", str(tmp_path))
    decided = choices._compiled
    monkeypatch.setattr(
        choices, "_compiled", lambda recipe, loaded, _: decided(recipe, loaded, "cuda")
    )


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "qwen"
    model_folder.write(folder, dict(_QWEN))
    return folder


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each step is compiled."""
    found: list[bool] = []
    add = Stepper.add_gradient

    def noted(stepper: Any, *arguments: Any) -> Any:
        found.append(stepper._choices.compiled)
        return add(stepper, *arguments)

    monkeypatch.setattr(Stepper, "add_gradient", noted)
    return found


def sentences(run: Run) -> list[str]:
    """What the run has said of its steps."""
    return [s for each in run.of(ev.OperationsChosen) for s in each.reasons if "Steps" in s]


def train(run: Run, maker: Maker | None, at_safe_point: Any = None) -> None:
    session = run.session(at_safe_point)
    session._kernels._maker = maker
    session.prepare()
    session.run()


class TestARun:
    def test_compiles_from_the_step_on_that_finds_them_made(
        self, make_run: MakeRun, qwen: Path, compiled: list[bool]
    ) -> None:
        run, maker = make_run(f"model={qwen}"), Maker()

        def visit(session: Any) -> None:
            if session.step == 2:
                maker.made = True

        train(run, maker, visit)
        assert compiled == [False, False, True, True, True, True]
        assert sentences(run)[1:] == [
            "Steps: a process beside the run makes their kernels.",
            "Steps: compiled from step 3 on; the kernels are made.",
        ]
        later = make_run(f"model={qwen}", "iters=1")
        train(later, maker)
        assert compiled[-1]
        assert len(maker.orders) == 1

    def test_that_is_resumed_compiles_what_it_did_before(
        self, make_run: MakeRun, qwen: Path, compiled: list[bool]
    ) -> None:
        run, maker = make_run(f"model={qwen}"), Maker()
        maker.made = True
        train(run, maker, stop_after(3))
        train(run, None)
        assert compiled == [False, *[True] * 5]

    @pytest.mark.parametrize(
        ("why", "said"),
        [
            (None, "their kernels couldn't be made beside the run"),
            ("another run has them made", "another run has them made"),
        ],
    )
    def test_stays_uncompiled_without(
        self, make_run: MakeRun, qwen: Path, compiled: list[bool], why: str | None, said: str
    ) -> None:
        run, maker = make_run(f"model={qwen}"), Maker(why)
        maker.made = False
        train(run, maker)
        assert not any(compiled)
        assert sentences(run)[-1] == (
            f"Steps: stay uncompiled, because {said}; compile_steps: always compiles them."
        )
        assert not run.of(ev.Warned)

    def test_has_none_made_where_memory_would_not_hold_both(
        self, make_run: MakeRun, qwen: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(backend, "available_memory", lambda: 200_000_000)
        run, maker = make_run(f"model={qwen}", "iters=1"), Maker()
        train(run, maker)
        assert not maker.orders
        assert re.search(r"would take \S+ GB beside the run's \S+ of 0.20 GB; ", sentences(run)[-1])

    @pytest.mark.parametrize("wanted", ["never", "always"])
    def test_has_none_made_where_the_recipe_decides(
        self, make_run: MakeRun, qwen: Path, wanted: str
    ) -> None:
        run, maker = make_run(f"model={qwen}", "iters=1", f"compile_steps={wanted}"), Maker()
        train(run, maker)
        assert not maker.orders
        assert len(sentences(run)) == 1


class TestTheStep:
    @pytest.mark.parametrize(
        "settings",
        [
            ("grad_accumulation_steps=2", "num_layers=-1", "fine_tune_type=full"),
            ("packing=true", "max_seq_length=96", "val_batches=1", "grad_checkpoint=true"),
        ],
    )
    def test_is_the_runs_own_of_fewer_layers(
        self,
        make_run: MakeRun,
        qwen: Path,
        settings: tuple[str, ...],
        compiled: list[bool],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        made: list[dict[str, Any]] = []
        run, maker = make_run(f"model={qwen}", *settings, "iters=1"), Maker()
        monkeypatch.setattr(
            kernel_making, "Stepper", lambda *a, **o: made.append(o) or Stepper(*a, **o)
        )
        train(run, maker)
        (order,) = maker.orders
        kernel_making.make(order)
        assert len(order.kept) < 8
        assert all(compiled[1:])
        own = run.directory.recipe()
        assert order.recipe.grad_accumulation_steps == own.grad_accumulation_steps
        assert made[0]["grad_checkpoint"] == own.grad_checkpoint
        assert not (Path(str(choices.state_dir())) / "operations.json").exists()

    @pytest.mark.parametrize("loss", ["dpo", "kto"])
    def test_is_one_of_the_runs_loss(
        self, make_run: MakeRun, qwen: Path, tmp_path: Path, loss: str, compiled: list[bool]
    ) -> None:
        labelled = [
            {"prompt": f"Lamp {n}?", "completion": f"It is {n}.", "label": n % 2 == 0}
            for n in range(8)
        ]
        pairs = [{"prompt": f"Lamp {n}?", "chosen": "On.", "rejected": "Off."} for n in range(8)]
        data = write_records(tmp_path / "data", *(labelled if loss == "kto" else pairs))
        run, maker = make_run(f"model={qwen}", f"data={data}", f"loss={loss}", "iters=1"), Maker()
        train(run, maker)
        kernel_making.make(maker.orders[0])
        assert compiled[0] is False
        assert all(compiled[1:])

    @pytest.mark.parametrize("checkpoint", [True, False])
    @pytest.mark.parametrize("family", ["qwen3_5", "mamba2"])
    def test_joins_the_operations_of_the_whole_model(
        self,
        tmp_path: Path,
        family: str,
        checkpoint: bool,
        uncompiled_again: None,
    ) -> None:
        config = {**RECURRENT[family], "num_hidden_layers": 24, "full_attention_interval": 4}
        whole, layers = _joined(tmp_path, config, 3, checkpoint=checkpoint, fewer=False)
        some, fewer = _joined(tmp_path, config, 2, checkpoint=checkpoint, fewer=True)
        assert (layers, fewer < 24) == (24, True)
        assert len(whole) > 20
        assert some == whole


@pytest.fixture
def uncompiled_again() -> Iterator[None]:
    """A CPU's steps are never compiled otherwise."""
    mx.enable_compile()
    yield
    mx.disable_compile()


def _joined(
    folder: Path, config: dict[str, Any], rows: int, *, checkpoint: bool, fewer: bool
) -> tuple[set[str], int]:
    """The joined operations of a compiled step's gradient, not computed, and its layers."""
    recipe = apply_settings(Recipe(batch_size=rows), ["num_layers=12"])
    loaded = attached(config, recipe)
    model = loaded.model
    if fewer:
        kernel_making.keep_layers(model, kernel_making.kept_layers(model))
    optimizer = optimizers.make_optimizer(recipe)
    optimizer.init(model.trainable_parameters())
    ways = choices.known("cuda")
    stepper = Stepper(
        model,
        optimizer,
        seed=0,
        grad_checkpoint=checkpoint,
        loss=plain_loss,
        dtype=adapters.compute_dtype(loaded, recipe),
        choices=ways,
    )
    ids = np.random.default_rng(0).integers(0, 96, (rows, 161), np.int32)
    batch = batch_arrays(ids, np.ones(ids.shape, np.bool_))
    with operations.replaced("cuda", ways), checkpointed(model.layers if checkpoint else []):
        loss, _, norm, total = stepper._compiled_gradient(
            mx.random.key(0), batch, {}, mx.array(1.0)
        )
    graph = folder / "graph.dot"
    mx.export_to_dot(str(graph), loss, norm, *named_arrays(total).values())
    names = re.findall(r'label ?= ?"(Compiled\w+)', graph.read_text())
    return set(names), len(model.layers)


@pytest.mark.parametrize(
    ("kinds", "kept"),
    [
        ("LLLF" * 6, range(8)),
        ("D" + "LLFL" * 4, range(9)),
        ("A" * 24, range(2)),
        ("AAAAB", range(5)),  # else B would be where the model expects an A
        ("AB", range(2)),
    ],
)
def test_of_layers_that_repeat_two_periods_are_kept(kinds: str, kept: range) -> None:
    assert shortened(kinds, kinds) == tuple(kept)
    frozen = [(kind, index < 8) for index, kind in enumerate(kinds)]
    if kinds == "LLLF" * 6:
        assert shortened(frozen, kinds) == tuple(range(16))
