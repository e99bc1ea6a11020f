"""What a run finds out about its model before the first step, and says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mlxft.compute.training import start_checks
from mlxft.errors import ModelError, RunError
from mlxft.runs import events as ev
from support.families import make_family
from support.training import MakeRun


class TestEstimate:
    def test_that_cannot_be_made_stops_no_run(
        self, make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise ModelError("not possible")

        for module in ("expected_memory", "out_of_memory"):
            name = f"mlxft.compute.training.{module}.ModelShapes.from_config"
            monkeypatch.setattr(name, fail)
        run = make_run("iters=1")
        assert run.train().step == 1
        assert run.of(ev.ModelLoaded)[0].expected_peak is None

    @pytest.mark.parametrize("family", ["mamba", "openelm"])
    def test_of_a_family_with_names_of_its_own_is_made(
        self, make_run: MakeRun, tmp_path: Path, family: str
    ) -> None:
        run = make_run(f"model={make_family(tmp_path / family, family)}", "iters=1")
        assert run.train().step == 1
        assert run.of(ev.ModelLoaded)[0].expected_peak


class TestCheckpointing:
    @pytest.mark.parametrize("grad_checkpoint", [False, True])
    def test_is_off_with_a_warning_where_gradients_differ(
        self, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, grad_checkpoint: bool
    ) -> None:
        @contextmanager
        def careless(layers: list[Any]) -> Iterator[None]:
            kind = type(layers[0])
            call = kind.__call__
            kind.__call__ = lambda *a, **o: 1.5 * call(*a, **o)
            yield
            kind.__call__ = call

        plain = make_run("iters=2")
        plain.train()
        monkeypatch.setattr(start_checks, "checkpointed", careless)
        run = make_run("iters=2", f"grad_checkpoint={grad_checkpoint}")
        run.train()
        assert run.losses == plain.losses
        said = [each.message for each in run.of(ev.Warned)]
        assert any("grad_checkpoint is off in this run" in each for each in said) == grad_checkpoint

    def test_is_off_where_it_would_take_more_memory(
        self, make_run: MakeRun, tmp_path: Path
    ) -> None:
        """DBRX evaluates arrays in the middle of its blocks, and needs all logits at once then."""
        model = make_family(tmp_path / "dbrx", "dbrx")
        losses = []
        for grad_checkpoint in (False, True):
            run = make_run(f"model={model}", f"grad_checkpoint={grad_checkpoint}", "iters=3")
            run.train()
            losses.append(run.losses)
        assert losses[1] == losses[0]
        assert losses[0][2] != losses[0][0]
        assert run.of(ev.Warned)[0].message.startswith("grad_checkpoint is off in this run")


class TestMemory:
    def test_that_is_too_small_for_the_check_is_said_with_the_remedy(
        self, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise RuntimeError("[metal::malloc] Unable to allocate 80 bytes.")

        monkeypatch.setattr(start_checks.Loss, "with_gradient", fail)
        message = r"out of memory before the first step .*; (set|choose) "
        with pytest.raises(RunError, match=message) as failure:
            make_run().train()
        assert failure.value.cause == "out_of_memory"


class TestStep:
    def test_code_that_fails_later_is_one_sentence(
        self, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise ValueError("a shape")

        monkeypatch.setattr("mlxft.compute.training.step.Stepper.add_gradient", fail)
        with pytest.raises(
            RunError, match=r"Step 1: the code of .* failed \(ValueError: a shape\)"
        ):
            make_run().train()
