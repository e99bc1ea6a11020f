"""Random and TPE search: which points are drawn, and that a killed supervisor changes none."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlxft import recipe as recipes
from mlxft.errors import RecipeError
from mlxft.memory.estimator import MemoryEstimate
from mlxft.queue import searching
from mlxft.queue import store as queue_store
from mlxft.queue.entries import Entry
from mlxft.queue.store import own_store
from mlxft.queue.supervisor import Supervisor
from mlxft.queue.sweeps import first_recipe, planned, start, with_sweep
from mlxft.recipe import Recipe
from mlxft.runs import events as ev
from mlxft.runs.journal import JournalWriter
from mlxft.sweep import record as records
from mlxft.sweep.plan import Halving, Search, Span, Sweep, read_sweep
from mlxft.sweep.record import SweepRecord, load_record
from mlxft.sweep.report import markdown, results
from mlxft.sweep.search import FIRST_RANDOM, Tried, next_values, require_optuna, search_rule
from mlxft.sweep.space import space_of
from mlxft.text import figures
from support.journal import GB, RUN_RECIPE, ended, trained_run

pytest.importorskip("optuna")

BASE = recipes.apply_settings(RUN_RECIPE, ["iters=40"])
SPACE: dict[str, list[Any] | Span] = {
    "learning_rate": Span(first=1e-6, last=1e-2, scale="log"),
    "rank": Span(first=2, last=64, scale="log"),
    "optimizer": ["adam", "adamw"],
}


def sweep_of(method: Any = "tpe", **budget: Any) -> Sweep:
    search = Search(method=method, **(budget or {"runs": 8}))
    return Sweep(name="s", space=SPACE, search=search)


def loss_of(values: dict[str, Any]) -> float:
    """Lowest at a learning rate of 2e-4 and a rank of 16."""
    rate = (math.log10(values["learning_rate"]) + 3.7) ** 2
    rank = (math.log2(values["lora_parameters.rank"]) - 4) ** 2
    return 1 + 0.3 * rate + 0.03 * rank + 0.1 * (values["optimizer"] == "adam")


def searched(search: Search, runs: int) -> list[dict[str, Any]]:
    """The points of a search whose runs have the losses of a known function."""
    tried: list[Tried] = []
    for _ in range(runs):
        values = next_values(space_of(SPACE), search, tried)
        assert values is not None
        tried.append(Tried(values=values, loss=loss_of(values)))
    return [dict(each.values) for each in tried]


def test_a_budget_of_one_is_said_in_the_singular() -> None:
    one = Search(method="random", runs=1, hours=1.0)
    assert search_rule(one).endswith("until 1 run or 1 hour of training.")
    many = Search(method="random", runs=12, hours=1.5)
    assert search_rule(many).endswith("until 12 runs or 1.5 hours of training.")


class TestPoints:
    def test_tpe_finds_a_better_point_than_chance_with_the_same_budget(self) -> None:
        best: dict[str, float] = {}
        for method in ("random", "tpe"):
            searches = [Search(method=method, runs=30, seed=seed) for seed in range(6)]
            found = [min(map(loss_of, searched(each, 30))) for each in searches]
            best[method] = sum(found) / len(found) - 1
        assert best["tpe"] < 0.7 * best["random"]

    def test_they_are_in_range_and_those_of_the_seed_and_the_results(self) -> None:
        search = Search(method="tpe", runs=8, seed=3)
        found = searched(search, 8)
        assert found == searched(search, 8)
        assert found[0] != searched(Search(method="tpe", runs=8, seed=4), 1)[0]
        for each in found:
            assert 1e-6 <= each["learning_rate"] <= 1e-2
            assert isinstance(each["lora_parameters.rank"], int)
        assert {each["optimizer"] for each in found} == {"adam", "adamw"}

    def test_none_is_tried_twice_and_a_space_has_an_end(self) -> None:
        space = space_of({"rank": [4, 8], "seed": Span(first=1, last=3)})
        tried: list[Tried] = []
        while values := next_values(space, Search(method="tpe", runs=99), tried):
            tried.append(Tried(values=values, loss=float(len(tried))))
        assert len(tried) == 6

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("space: {rank: [4, 8]}", "either a grid, or a space and a search"),
            ("grid: {rank: [4]}\nsearch: {method: tpe, runs: 4}", "either a grid, or a space"),
            ("space: {rank: [4]}\nsearch: {method: tpe}", "no budget; give it runs, hours or both"),
            ("space: {rank: [4]}\nsearch: {method: tpe, runs: 0}", "between 1 and 1000"),
            ("space: {rank: [4]}\nsearch: {method: grid, runs: 4}", "Invalid enum value 'grid'"),
            (
                "space: {learning_rate: {from: 0, to: 1, scale: log}}\n"
                "search: {method: random, runs: 4}",
                "only values above 0",
            ),
            (
                "space: {loss: [dpo, ipo]}\nsearch: {method: tpe, runs: 4}",
                "loss can't be searched by tpe",
            ),
            (
                "space: {rank: [4]}\nsearch: {method: tpe, runs: 4}\nhalving: {first: 5}",
                "use random, or leave halving out",
            ),
            (
                "space: {rank: [4]}\nsearch: {method: random, hours: 1}\nhalving: {first: 5}",
                "a budget in runs, not in hours",
            ),
        ],
    )
    def test_a_mistake_is_named(self, tmp_path: Path, text: str, message: str) -> None:
        (tmp_path / "s.yaml").write_text(text)
        with pytest.raises(RecipeError, match=message):
            first_recipe(read_sweep(tmp_path / "s.yaml"), BASE)

    def test_without_optuna_a_sentence_says_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "optuna", None)
        with pytest.raises(RecipeError, match="run pip install 'optuna>=5,<6'"):
            require_optuna()


def train(entry: Entry, kept: int) -> None:
    """An engine that trains at once: 40 steps of 0.1 s; a rate above 3e-3 diverges."""
    recipe, journal = entry.directory.recipe(), JournalWriter(entry.directory.journal_file)
    for event in trained_run(recipe, entry.until or 40):
        journal.append(event)
    if recipe.learning_rate > 3e-3:
        failed = ev.RunFailed(message="Step 12: no loss.", step=12, log="", cause="not_finite")
        journal.append(failed)
    else:
        values = {
            "learning_rate": recipe.learning_rate,
            "lora_parameters.rank": recipe.lora_parameters.rank,
            "optimizer": recipe.optimizer,
        }
        step, loss = entry.until or 40, loss_of(values)
        journal.append(ev.ValidationFinished(step=step, loss=loss, tokens=9, seconds=1, best=True))
        journal.append(ended(step, "stopped" if entry.until else "completed"))
    journal.close()


def started(project: Path, sweep: Sweep) -> None:
    record = start(project, planned(project, sweep, BASE, None))
    own_store().change(lambda queue: with_sweep(queue, project, record, 0))


def worked_through(project: Path, launch: Callable[[Entry, int], object] = train) -> SweepRecord:
    """The sweep's record once its queue is empty; each step is another supervisor's."""
    while own_store().read().has_work:
        Supervisor(own_store(), launch).proceed()
    return load_record(project, "s")


def values_of(record: SweepRecord) -> list[dict[str, Any]]:
    return [each.values for each in record.points]


class Killed(BaseException):
    """As a signal that can't be handled."""


class TestQueue:
    def test_a_supervisor_killed_at_any_write_neither_loses_nor_doubles_a_point(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sweep = sweep_of(runs=FIRST_RANDOM + 3)
        (tmp_path / "whole").mkdir()
        started(tmp_path / "whole", sweep)
        expected = worked_through(tmp_path / "whole")

        project, launched, left = tmp_path / "killed", list[str](), [0]
        project.mkdir()
        started(project, sweep)
        write = records.write_atomically

        def mortal(path: Path, data: bytes) -> None:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            write(path, data)

        def launch(entry: Entry, kept: int) -> None:
            launched.append(entry.directory.name)
            train(entry, kept)

        for module in (records, queue_store):
            monkeypatch.setattr(module, "write_atomically", mortal)
        kills = 0
        while own_store().read().has_work:
            left[0] = 1 + kills % 3
            try:
                while Supervisor(own_store(), launch).proceed():
                    pass
            except Killed:
                kills += 1
        found = load_record(project, "s")
        assert kills > 2 * len(launched)
        assert launched == [f"s-{number}" for number in range(1, FIRST_RANDOM + 4)]
        assert values_of(found) == values_of(expected)
        assert found.ended == "Its budget of 8 runs is spent."

    def test_points_that_do_not_fit_are_listed_and_cost_no_budget(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def estimates(project: Path, longest: int | None) -> Callable[[Recipe], MemoryEstimate]:
            def estimate(recipe: Recipe) -> MemoryEstimate:
                sizes = dict.fromkeys(
                    ("adapter", "gradients", "optimizer", "activations", "loss", "cache", "base"), 0
                )
                weights = recipe.lora_parameters.rank * GB
                return MemoryEstimate(weights=weights, limit=8 * GB, known_family=True, **sizes)

            return estimate

        monkeypatch.setattr(searching, "estimates", estimates)
        started(tmp_path, sweep_of("random", runs=4))
        record = worked_through(tmp_path)
        skipped = [each for each in record.points if each.skipped]
        first = skipped[0].values["learning_rate"]
        assert all(each.values["lora_parameters.rank"] > 8 for each in skipped)
        assert len(record.points) - len(skipped) == 4
        page = markdown(record, results(tmp_path / "adapters", record))
        assert "Random points, seed 0, until 4 runs. Its budget of 4 runs is spent." in page
        assert f"## Skipped\n\n- learning_rate {figures.learning_rate(first)}" in page

    def test_hours_of_training_end_it_and_more_of_them_continue_it(self, tmp_path: Path) -> None:
        seconds = ended(40, "completed").seconds
        started(tmp_path, sweep_of("random", hours=2.5 * seconds / 3600))
        first = worked_through(tmp_path)
        assert len(first.points) == 3
        assert "hours is spent" in first.ended
        started(tmp_path, sweep_of("random", runs=5))
        assert values_of(worked_through(tmp_path))[:3] == values_of(first)
        assert len(load_record(tmp_path, "s").points) == 5

    def test_a_point_that_cannot_be_drawn_ends_the_search_and_not_the_queue(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        started(tmp_path, sweep_of())
        monkeypatch.setitem(sys.modules, "optuna", None)
        record = worked_through(tmp_path)
        assert [each.state for each in own_store().read().ended] == ["finished"]
        assert record.ended.startswith("Its next point can't be drawn: A search needs Optuna")

    def test_halving_drops_the_worse_of_random_points(self, tmp_path: Path) -> None:
        sweep = Sweep(
            name="s",
            space={**SPACE, "learning_rate": [1e-5, 1e-4, 1e-3]},
            search=Search(method="random", runs=4),
            halving=Halving(first=10),
        )
        started(tmp_path, sweep)
        rounds = worked_through(tmp_path).rounds
        assert [len(each.points) for each in rounds] == [4, 2, 1]
        losses = {each.number: loss_of(each.values) for each in load_record(tmp_path, "s").points}
        assert rounds[-1].points == (min(losses, key=lambda number: losses[number]),)
