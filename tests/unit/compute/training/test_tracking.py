"""Reports for wandb, through mlx_lm's callbacks."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
from mlx_lm.tuner import callbacks

from mlxft.compute.training import tracking
from mlxft.compute.training.tracking import Tracker
from mlxft.errors import RecipeError
from mlxft.recipe import Recipe
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory

REPORT = ev.TrainReported(
    step=10, loss=1.5, learning_rate=1e-4, steps_per_second=2.0, tokens_per_second=100.0,
    trained_tokens=500, peak_memory=10, active_memory=5, cache_memory=1,
)  # fmt: skip


class Service:
    """A fake wandb or swanlab that records its calls."""

    def __init__(self) -> None:
        self.started: dict[str, Any] = {}
        self.logged: list[tuple[int, dict[str, Any]]] = []
        self.ends: list[dict[str, Any]] = []
        self.State = SimpleNamespace(CRASHED="crashed")

    def init(self, **options: Any) -> None:
        self.started = options

    def log(self, figures: dict[str, Any], step: int) -> None:
        self.logged.append((step, figures))

    def finish(self, **end: Any) -> None:
        self.ends.append(end)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    made = Service()
    for name in ("wandb", "swanlab"):
        monkeypatch.setattr(callbacks, name, made)
    return made


class TestTracking:
    def test_without_a_service_events_go_only_to_the_journal(self, tmp_path: Path) -> None:
        emit = SimpleNamespace(append=lambda event: None).append
        tracker = Tracker(Recipe(), RunDirectory(tmp_path))
        assert tracker.reporting(emit) is emit
        assert tracker.finish() is None

    def test_reports_and_validations_reach_the_service_under_mlx_lms_names(
        self, tmp_path: Path, service: Service
    ) -> None:
        journal: list[ev.AnyEvent] = []
        recipe = Recipe(report_to="wandb", project_name="lamps")
        emit = Tracker(recipe, RunDirectory(tmp_path / "run-1")).reporting(journal.append)
        emit(REPORT)
        emit(ev.ValidationFinished(step=10, loss=1.25, tokens=9, seconds=0.5, best=True))
        emit(ev.Warned(message="nothing"))
        assert (service.started["project"], service.started["name"]) == ("lamps", "run-1")
        (first, train), (second, validation) = service.logged
        assert (first, train["train_loss"], train["iteration"]) == (10, 1.5, 10)
        assert (second, validation["val_loss"]) == (10, 1.25)
        assert len(journal) == 3

    def test_a_service_that_is_missing_or_unknown_is_one_sentence(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(callbacks, "wandb", None)
        for name, says in (("wandb", "pip install wandb"), ("nobody", "it must be of wandb")):
            with pytest.raises(RecipeError) as refused:
                Tracker(Recipe(report_to=name), RunDirectory(tmp_path))
            assert says in str(refused.value)

    def test_a_service_that_does_not_start_is_one_sentence(
        self, tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(**options: Any) -> None:
            raise RuntimeError("no API key\nmore")

        monkeypatch.setattr(service, "init", refuse)
        with pytest.raises(RecipeError, match=r"wandb doesn't start \(no API key\)"):
            Tracker(Recipe(report_to="wandb"), RunDirectory(tmp_path))

    @pytest.mark.parametrize(
        ("name", "finished", "failed"),
        [
            ("wandb", {"exit_code": 0}, {"exit_code": 1}),
            ("swanlab", {}, {"state": "crashed", "error": "Out of memory."}),
        ],
    )
    def test_a_service_gets_the_end_of_a_run(
        self,
        tmp_path: Path,
        service: Service,
        name: str,
        finished: dict[str, Any],
        failed: dict[str, Any],
    ) -> None:
        tracker = Tracker(Recipe(report_to=name), RunDirectory(tmp_path))
        assert tracker.finish() is None
        assert tracker.finish("Out of memory.") is None
        assert service.ends == [finished, failed]

    def test_a_service_that_cannot_finish_is_a_warning(
        self, tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(**end: Any) -> None:
            raise RuntimeError("no network")

        monkeypatch.setattr(service, "finish", refuse)
        tracker = Tracker(Recipe(report_to="wandb"), RunDirectory(tmp_path))
        assert "wandb may lack the last steps (no network)" in str(tracker.finish())

    def test_a_service_that_hangs_does_not_keep_the_engine(
        self, tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        forever = Event()
        monkeypatch.setattr(tracking, "FINISH_SECONDS", 0.01)
        monkeypatch.setattr(service, "finish", lambda **end: forever.wait())
        tracker = Tracker(Recipe(report_to="wandb"), RunDirectory(tmp_path))
        assert "no end within" in str(tracker.finish())
        forever.set()
