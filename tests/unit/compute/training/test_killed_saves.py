"""Runs killed before every single write of a save and of the end, and resumed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import msgspec
import pytest

from mlxft.compute.arrays import read_arrays
from mlxft.compute.training.session import TrainingSession
from mlxft.recipe import to_mapping
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory
from mlxft.runs.journal import JournalReader, JournalWriter
from support.killing import KilledError, killed_at
from support.training import MakeRun

SETTINGS = (
    "iters=2",
    "num_layers=1",
    "lora_parameters.keys=self_attn.q_proj",
    "lora_parameters.dropout=0.1",
    "grad_accumulation_steps=2",
    "save_every=1",
    "keep_checkpoints=1",
    "steps_per_report=2",
    "steps_per_eval=2",
    "val_batches=1",
)
_VARYING = {"seq", "time", "seconds", "steps_per_second", "tokens_per_second", "adapter_path"}
_VARYING |= {"peak_memory", "active_memory", "cache_memory"}


def train(directory: RunDirectory) -> None:
    """Train a run as an engine does, in this process; save step 1 twice."""
    recipe, visited = directory.recipe(), list[int]()

    def visit() -> None:
        if session.step == 1 not in visited:
            session.request_checkpoint()
        visited.append(session.step)

    with closing(JournalWriter(directory.journal_file)) as journal:
        session = TrainingSession(
            recipe,
            directory,
            journal.append,
            at_safe_point=visit,
            earlier=journal.earlier,
        )
        started = ev.RunStarted(
            run=directory.name,
            pid=1,
            host="",
            recipe=to_mapping(recipe),
            iters=recipe.iters,
            start_step=session.start_step,
        )
        journal.append(started)
        session.prepare()
        journal.append(session.run())


def story(directory: RunDirectory) -> dict[tuple[str, int], dict[str, Any]]:
    """What the journal reports of each step, after the rewinds of resumes."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for event in JournalReader(directory.journal_file).read():
        fields = msgspec.to_builtins(event)
        if isinstance(event, ev.RunStarted):
            found = {key: value for key, value in found.items() if key[1] <= event.start_step}
        elif "step" in fields and not isinstance(event, ev.Warned):
            name = fields.pop("event")
            kept = {key: value for key, value in fields.items() if key not in _VARYING}
            found[name, event.step] = kept  # type: ignore[union-attr]
    return found


def files(directory: RunDirectory) -> dict[str, Any]:
    """Every file of a run, except for what depends on time."""
    found: dict[str, Any] = {}
    for path in directory.path.rglob("*"):
        name = str(path.relative_to(directory.path))
        if path.name == "state.json":
            state = json.loads(path.read_bytes())["state"]
            del state["started"], state["spent"], state["window"]["seconds"]
            found[name] = state
        elif path.name == "training.safetensors":  # Its arrays may come in another order.
            found[name] = {key: array.tolist() for key, array in read_arrays(path).items()}
        elif path.is_file() and path != directory.journal_file:
            found[name] = path.read_bytes()
    return found


def copies(run: RunDirectory) -> Iterator[RunDirectory]:
    """Equal runs, each in the place of the one before."""
    original = run.path.with_name("original")
    run.path.rename(original)
    while True:
        shutil.rmtree(run.path, ignore_errors=True)
        shutil.copytree(original, run.path)
        yield run


def differing(run: RunDirectory) -> list[str]:
    """The writes of a run before which a kill, and then a resume, leave anything different."""
    fresh = copies(run)
    run = next(fresh)
    with killed_at(run.path, None) as undisturbed:
        train(run)
    expected, reported = files(run), story(run)
    assert {"earlier-1_adapters.safetensors", "best_adapters.safetensors"} < expected.keys()
    found = []
    for number, write in enumerate(undisturbed.done):
        run = next(fresh)
        with killed_at(run.path, number), suppress(KilledError):
            train(run)
        train(run)
        if files(run) != expected or story(run) != reported:
            found.append(f"{number}: {write}")
    return found


class TestKilled:
    @pytest.fixture(autouse=True)
    def fast(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A killed process needs no flushed disk."""
        monkeypatch.setattr(os, "fsync", lambda _: None)

    @pytest.fixture
    def run(self, make_run: MakeRun) -> RunDirectory:
        """A run that starts over, so that it has an adapter to keep."""
        run = make_run(*SETTINGS).directory
        run.adapter_file.write_bytes(b"of a run whose checkpoints are gone")
        return run

    def test_before_any_write_a_resumed_run_ends_like_an_undisturbed_one(
        self, run: RunDirectory
    ) -> None:
        assert differing(run) == []

    def test_while_it_finishes_a_killed_save_as_well(self, run: RunDirectory) -> None:
        with killed_at(run.path, None, after="rename .0000002.new"), suppress(KilledError):
            train(run)
        assert not run.numbered_adapter_file(2).exists()
        assert differing(run) == []
