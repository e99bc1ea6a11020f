"""A report of runs, checked against what their journals hold."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from mlxft import recipe as recipes
from mlxft.comparison.curves import read_curves
from mlxft.comparison.evaluations import keep_evaluation
from mlxft.comparison.report import PAGE, Compared, report, shared_steps
from mlxft.comparison.table import row_of
from mlxft.conversation.scores import Case, evaluation, scored
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory
from support.journal import RUN_RECIPE, finished, preparation, training, write_run

NOW = 1_800_000_000.0
OTHER = recipes.replace(RUN_RECIPE, "learning_rate", 1e-5)


def sampled(step: int, text: str) -> ev.SampleAnswered:
    return ev.SampleAnswered(step=step, prompt="Say *hi* | <b>", text=text, tokens=3, seconds=1)


@pytest.fixture
def runs(tmp_path: Path) -> list[Compared]:
    """Two runs with other rates and samples, of which the first was evaluated."""
    made: list[RunDirectory] = []
    for recipe, said in ((RUN_RECIPE, "a|b"), (OTHER, "<i>")):
        samples = [sampled(0, "before"), sampled(200, said)]
        events = [*preparation(recipe), *training(220, recipe), *samples, finished(recipe)]
        made.append(write_run(tmp_path, recipe, events))
    cases = [
        Case("train:1", "q", "yes", (scored("no", "yes"), scored(said, "yes")))
        for said in ("yes", "yes", "no", "yes")
    ]
    losses = [("base", 2.0), (made[0].name, 1.0)]
    found = evaluation("test", records=4, tokens=9, losses=losses, cases=cases)
    keep_evaluation(made[0], found, data="data", now=NOW)
    keep_evaluation(made[0], found, data="data", now=NOW + 1)
    return [Compared(row_of(each), read_curves(each)) for each in made]


def test_the_page_has_figures_differences_evaluation_and_samples(runs: list[Compared]) -> None:
    files = report(runs, NOW)
    page = files[PAGE].decode()
    first, second = (each.row.run for each in runs)
    assert f"# {first}, {second}\n" in page
    assert "| learning_rate | 2e-4 | 1e-5 |" in page
    assert f"| {first} | test | 4 | 1.000 | 75.0% (25.0% to 100.0%) |" in page
    assert "+75.0 points (+25.0 to +100.0) over base |" in page
    assert page.count("| test | 4 |") == 1
    assert "> Say \\*hi\\* \\| &lt;b&gt;" in page
    assert "| 200 | a\\|b | &lt;i&gt; |" in page
    pictures = [line.partition("](")[2][:-1] for line in page.splitlines() if line[:2] == "!["]
    assert pictures == [name for name in files if name.endswith(".svg")]
    assert len(pictures) == 5


def test_the_plots_have_a_line_for_each_run(runs: list[Compared]) -> None:
    for name, data in report(runs, NOW).items():
        if name.endswith(".svg"):
            svg = ElementTree.fromstring(data)
            assert len(list(svg.iter("{http://www.w3.org/2000/svg}polyline"))) == 2, name
            texts = {each.text for each in svg.iter("{http://www.w3.org/2000/svg}text")}
            assert {each.row.run for each in runs} <= texts, name


def test_figures_for_programs_are_those_of_the_journals(runs: list[Compared]) -> None:
    files = report(runs, NOW)
    steps = list(csv.DictReader(files["steps.csv"].decode().splitlines()))
    own = [each for each in steps if each["run"] == runs[0].row.run]
    expected = runs[0].curves.steps
    assert [float(each["step"]) for each in own] == list(expected.step)
    assert [float(each["loss"]) for each in own] == pytest.approx(list(expected.mean_loss))
    assert float(own[-1]["tokens"]) == sum(expected.tokens)
    rows = list(csv.DictReader(files["runs.csv"].decode().splitlines()))
    assert [each["learning_rate"] for each in rows] == ["0.0002", "1e-05"]
    whole = json.loads(files["report.json"])
    assert whole["differences"][0]["values"] == dict(
        zip((each.row.run for each in runs), (2e-4, 1e-5), strict=True)
    )
    assert [each["step"] for each in whole["runs"][0]["samples"]] == [0, 200]


def test_samples_are_compared_at_the_same_steps() -> None:
    everywhere = dict.fromkeys(range(0, 1000, 100), "a")
    assert shared_steps([everywhere, {0: "b", 300: "b", 950: "b"}, {}]) == [0, 300]
    assert shared_steps([everywhere]) == [0, 200, 400, 500, 700, 900]
