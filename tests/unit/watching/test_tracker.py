"""What a service gets of a run, from the run's journal."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from mlxft import recipe as recipes
from mlxft.errors import RecipeError
from mlxft.recipe import Recipe
from mlxft.recipe.mlx_lm_command import command_notes, mlx_lm_command
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory
from mlxft.runs.journal import JournalReader, JournalWriter
from mlxft.watching.installed import missing_advice, refuse_missing
from mlxft.watching.tracker import Tracker
from mlxft.watching.voice import Voice


def started(step: int = 0) -> ev.RunStarted:
    recipe = recipes.to_mapping(Recipe(model="m", project_name="lamps"))
    return ev.RunStarted(run="r", pid=1, host="h", recipe=recipe, iters=9, start_step=step)


def trained(step: int, preference: ev.Preference | None = None) -> list[ev.AnyEvent]:
    """A step with its report."""
    return [
        ev.StepFinished(
            step=step, loss=2.0, tokens=9, seconds=0.1, learning_rate=1e-4,
            gradient_norm=float(step), preference=preference,
        ),
        ev.TrainReported(
            step=step, loss=1.5, learning_rate=1e-4, steps_per_second=2.0,
            tokens_per_second=100.0, trained_tokens=500, peak_memory=3 * 10**9,
            active_memory=2 * 10**9, cache_memory=10**9,
        ),
    ]  # fmt: skip


def validated(step: int) -> ev.ValidationFinished:
    return ev.ValidationFinished(step=step, loss=1.25, tokens=9, seconds=0.5, best=True)


FAILED = ev.RunFailed(message="Out of memory.", step=2, log="engine.log")
FINISHED = ev.RunFinished(
    reason="completed", step=2, first_loss=2.0, final_loss=1.5, best_validation_loss=1.25,
    best_validation_step=2, tokens_per_second=1.0, trained_tokens=9, peak_memory=1, seconds=1.0,
    adapter_path="a",
)  # fmt: skip
STOPPED = msgspec.structs.replace(FINISHED, reason="stopped")
ROUND = msgspec.structs.replace(STOPPED, ends_round=True)


class Wandb:
    """Stands in for wandb and records its calls."""

    def __init__(self, *, login: bool = True) -> None:
        self.login = login
        self.runs: list[dict[str, Any]] = []
        self.logged: list[tuple[int, dict[str, Any]]] = []
        self.ends: list[int] = []
        self.summary: dict[str, Any] = {}
        self.dir = "/run/wandb/offline-1/files"

    def init(self, *, mode: str = "online", **options: Any) -> Wandb:
        if not self.login and mode != "offline":
            raise RuntimeError("No API key.\nmore")
        self.runs.append({"mode": mode, **options})
        return self

    def log(self, figures: dict[str, Any], step: int) -> None:
        self.logged.append((step, figures))

    def finish(self, exit_code: int) -> None:
        self.ends.append(exit_code)

    def teardown(self) -> None: ...

    def Settings(self, **settings: Any) -> None: ...  # noqa: N802 - wandb's name

    def Table(self, columns: list[str], data: list[list[Any]]) -> Any:  # noqa: N802
        return data

    def steps(self, name: str) -> list[int]:
        return [step for step, figures in self.logged if name in figures]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    directory = RunDirectory(tmp_path / "run-1")
    directory.watching.mkdir(parents=True)
    return directory


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Wandb:
    made = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", made)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    return made


def report(run: RunDirectory, events: Sequence[ev.AnyEvent], name: str = "wandb") -> str:
    """Report a session with these events; what is said to the engine."""
    with contextlib.closing(JournalWriter(run.journal_file)) as journal:
        after = journal.earlier.seq
        for each in events:
            journal.append(each)
    said = io.StringIO()
    Tracker(name, run, after, Voice(run, said), lambda: None).run()
    return said.getvalue()


def warnings(run: RunDirectory) -> list[str]:
    return [e.message for e in JournalReader(run.journal_file).read() if isinstance(e, ev.Warned)]


class TestReports:
    def test_figures_have_mlx_lms_names_and_units(self, run: RunDirectory, wandb: Wandb) -> None:
        sample = ev.SampleAnswered(step=2, prompt="Hi", text="Ho", tokens=1, seconds=0.1)
        said = report(
            run,
            [started(), validated(0), *trained(1)[:1], *trained(2), validated(2), sample, FINISHED],
        )
        (begun,) = wandb.runs
        assert (begun["project"], begun["name"], begun["mode"]) == ("lamps", "run-1", "online")
        assert begun["config"]["model"] == "m"
        assert wandb.steps("val_loss") == [0, 2]
        ((_, figures),) = [each for each in wandb.logged if "train_loss" in each[1]]
        assert figures == {
            "train_loss": 1.5, "learning_rate": 1e-4, "iterations_per_second": 2.0,
            "tokens_per_second": 100.0, "trained_tokens": 500.0, "peak_memory": 3.0,
            "active_memory": 2.0, "cache_memory": 1.0, "gradient_norm": 1.5,
        }  # fmt: skip
        assert wandb.logged[-1] == (2, {"sample": [[2, "Hi\n\nHo"]]})
        assert said == ""

    def test_preferences_are_means_by_trls_names(self, run: RunDirectory, wandb: Wandb) -> None:
        values = {"chosen_reward": 1.0, "rejected_reward": -1.0, "margin": 2.0}
        first = ev.Preference(**values, accuracy=1.0, chosen_logp=None, rejected_logp=-3.0)
        second = msgspec.structs.replace(first, margin=4.0, accuracy=0.0)
        report(run, [started(), *trained(1, first)[:1], *trained(2, second), FINISHED])
        ((_, figures),) = wandb.logged
        assert figures["rewards/margins"] == 3.0
        assert figures["rewards/accuracies"] == 0.5
        assert "logps/chosen" not in figures

    @pytest.mark.parametrize(
        ("ending", "code", "state"),
        [
            (FINISHED, 0, "finished"),
            (STOPPED, 0, "stopped"),
            (ROUND, 0, "finished"),
            (FAILED, 1, "failed"),
            (None, 1, "failed"),
        ],
    )
    def test_a_service_gets_the_end_of_a_run_also_of_a_killed_one(
        self, run: RunDirectory, wandb: Wandb, ending: ev.AnyEvent | None, code: int, state: str
    ) -> None:
        report(run, [started(), *trained(1), *([ending] if ending else [])])
        assert (wandb.ends, wandb.summary["state"]) == ([code], state)

    def test_a_run_that_ends_before_its_first_step_is_not_reported(
        self, run: RunDirectory, wandb: Wandb
    ) -> None:
        report(run, [started(), validated(0), FAILED])
        assert wandb.runs == []


class TestResume:
    def test_continues_the_same_run_and_repeats_no_step(
        self, run: RunDirectory, wandb: Wandb
    ) -> None:
        report(run, [started(), *trained(1), *trained(2), validated(2), *trained(3)])
        report(run, [started(1), *trained(2), validated(2), *trained(3), *trained(4), FINISHED])
        before, resumed = wandb.runs
        assert before["id"] == resumed["id"]
        assert wandb.steps("train_loss") == [1, 2, 3, 4]
        assert wandb.steps("val_loss") == [2]

    def test_a_pipe_in_place_of_what_was_reported_is_as_if_nothing_had_been(
        self, run: RunDirectory, wandb: Wandb
    ) -> None:
        os.mkfifo(run.watching / "wandb.json")
        report(run, [started(), *trained(1), FINISHED])
        assert wandb.steps("train_loss") == [1]

    def test_tensorboard_shows_the_steps_of_the_resumed_run(self, run: RunDirectory) -> None:
        event_files = pytest.importorskip("tensorboardX.proto.event_pb2")
        report(run, [started(), *trained(1), *trained(2), *trained(3)], "tensorboard")
        report(run, [started(1), *trained(2), *trained(3), FINISHED], "tensorboard")
        shown: list[int] = []
        for file in sorted(run.path.glob("events.out.tfevents.*"), key=lambda e: e.stat().st_mtime):
            for data in tensorboard_records(file):
                event = event_files.Event.FromString(data)
                if event.HasField("session_log") and event.step:
                    shown = [step for step in shown if step < event.step]
                shown += [event.step for each in event.summary.value if each.tag == "train_loss"]
        assert shown == [1, 2, 3]


def tensorboard_records(file: Path) -> list[bytes]:
    """The records of an event file: length, checksum, data, checksum."""
    data, found, at = file.read_bytes(), [], 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 8], "little")
        found.append(data[at + 12 : at + 12 + length])
        at += 16 + length
    return found


class TestFaults:
    def test_without_a_login_the_run_is_recorded_on_disk(
        self, run: RunDirectory, wandb: Wandb
    ) -> None:
        wandb.login = False
        said = report(run, [started(), *trained(1), FINISHED])
        assert [each["mode"] for each in wandb.runs] == ["offline"]
        assert wandb.steps("train_loss") == [1]
        expected = (
            "wandb records this session on disk (No API key); wandb sync /run/wandb/offline-1"
        )
        assert said == f"{expected} uploads it.\n"

    def test_a_service_that_fails_is_one_warning_and_a_resume_continues(
        self, run: RunDirectory, wandb: Wandb, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(figures: dict[str, Any], step: int) -> None:
            raise OSError("quota\nmore")

        with monkeypatch.context() as patch:
            patch.setattr(wandb, "log", fail)
            said = report(run, [started(), *trained(1), *trained(2), FAILED])
        assert said.startswith("wandb gets nothing of this session (quota); ")
        report(run, [started(1), *trained(2), FINISHED])
        assert wandb.steps("train_loss") == [2]

    def test_after_the_engine_has_ended_a_warning_goes_into_the_journal(
        self, run: RunDirectory, wandb: Wandb, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(exit_code: int) -> None:
            raise TimeoutError

        monkeypatch.setattr(wandb, "finish", fail)
        assert report(run, [started(), *trained(1), FINISHED]) == ""
        (warning,) = warnings(run)
        assert warning.startswith("wandb gets nothing after step 1 (TimeoutError); ")

    def test_a_service_that_hangs_is_given_up(
        self, run: RunDirectory, wandb: Wandb, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given_up = Event()
        monkeypatch.setattr(wandb, "log", lambda figures, step: given_up.wait(60))
        with contextlib.closing(JournalWriter(run.journal_file)) as journal:
            for each in (started(), *trained(1), FINISHED):
                journal.append(each)
        said = io.StringIO()
        Tracker("wandb", run, 0, Voice(run, said), given_up.set, call_seconds=0.2).run()
        assert given_up.is_set()
        assert "wandb gets nothing of this session (it doesn't answer)" in said.getvalue()

    def test_what_is_not_installed_is_refused_with_the_command(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for module in ("trackio", "tensorboardX"):
            monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(RecipeError, match="run pip install tensorboardX trackio, or leave"):
            refuse_missing(Recipe(report_to="tensorboard, Trackio"))
        refuse_missing(Recipe())
        (advice,) = missing_advice(Recipe(report_to="tensorboard,swanlab,trackio"))
        assert advice.message.startswith("Run pip install tensorboardX ")

    def test_an_unknown_service_is_no_recipe(self) -> None:
        with pytest.raises(RecipeError, match="must be of tensorboard, trackio, wandb, swanlab"):
            recipes.replace(Recipe(), "report_to", "wandb,nobody")

    def test_mlx_lms_command_reports_where_mlx_lm_can(self) -> None:
        recipe = Recipe(report_to="tensorboard,wandb")
        assert mlx_lm_command(recipe).endswith("--report-to wandb")
        (note,) = command_notes(recipe)
        assert note.startswith("mlx-lm doesn't report to tensorboard;")


class TestOtherServices:
    def test_trackio_gets_figures_samples_and_a_failure(
        self, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls: list[tuple[str, Any]] = []
        monkeypatch.setitem(
            sys.modules,
            "trackio",
            SimpleNamespace(
                init=lambda **options: calls.append(("init", options["resume"])),
                log=lambda figures, step: calls.append(("log", step)),
                alert=lambda title, text, level: calls.append(("alert", text)),
                finish=lambda: calls.append(("finish", None)),
                AlertLevel=SimpleNamespace(ERROR="error"),
                Markdown=str,
            ),
        )
        report(run, [started(), *trained(1), FAILED], "trackio")
        report(run, [started(1), *trained(2), FAILED], "trackio")
        first, second = calls[: len(calls) // 2], calls[len(calls) // 2 :]
        assert first[0] == ("init", "never")
        assert first[1:] == [("log", 1), ("alert", "Out of memory."), ("finish", None)]
        assert second[:2] == [("init", "allow"), ("log", 2)]

    def test_swanlab_gets_figures_and_the_error_of_a_failure(
        self, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        steps: list[int] = []
        ends: list[dict[str, Any]] = []
        service = SimpleNamespace(
            log=lambda figures, step: steps.append(step), finish=lambda **end: ends.append(end)
        )
        module = SimpleNamespace(init=lambda **options: service, Text=str)
        monkeypatch.setitem(sys.modules, "swanlab", module)
        report(run, [started(), *trained(1), FAILED], "swanlab")
        report(run, [started(1), *trained(2), STOPPED], "swanlab")
        assert steps == [1, 2]
        assert ends == [{"state": "crashed", "error": "Out of memory."}, {"state": "aborted"}]
