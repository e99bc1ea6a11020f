"""`mlxft-tui runs`: the table, and what is done with several runs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from mlxft import recipe as recipes
from mlxft.comparison.labels import read_labels
from mlxft.recipe.yaml_text import parse_yaml
from mlxft.runs.directory import RunDirectory
from mlxft_tui.cli.main import main
from support.journal import RUN_RECIPE, ended, trained_run, write_run

OTHER = recipes.replace(RUN_RECIPE, "learning_rate", 1e-5)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[RunDirectory, RunDirectory]:
    """A finished run and one that was lost after a step, in the current project."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "adapters"
    finished = write_run(root, RUN_RECIPE, [*trained_run(RUN_RECIPE, 40), ended(40)], "lamp")
    return finished, write_run(root, OTHER, trained_run(OTHER, 1), "lamp")


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["runs", *words]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["runs", *words]) == 1
    return capsys.readouterr().err


Runs = tuple[RunDirectory, RunDirectory]
Printed = pytest.CaptureFixture[str]


class TestList:
    def test_it_has_a_line_for_each_run(self, runs: Runs, capsys: Printed) -> None:
        head, *lines = printed(capsys).splitlines()
        assert head.split()[:4] == ["name", "state", "step", "loss"]
        (line,) = (each for each in lines if each.startswith("lamp-1"))
        assert line.split()[1:6] == ["finished", "40/1000", "0.857", "0.950", "@40"]
        assert "62.0%" in line

    def test_columns_filter_and_sort(self, runs: Runs, capsys: Printed) -> None:
        columns = ("--columns", "run,learning_rate,best_validation_loss", "--sort", "learning_rate")
        lines = printed(capsys, *columns).splitlines()
        assert [each.split() for each in lines[1:]] == [
            ["lamp-2", "1e-5", "—"],
            ["lamp-1", "2e-4", "0.950", "@40"],
        ]
        rows = list(csv.DictReader(printed(capsys, *columns, "--csv").splitlines()))
        assert [each["learning_rate"] for each in rows] == ["1e-05", "0.0002"]
        (row,) = json.loads(printed(capsys, "--filter", "state = lost", "--json"))
        assert (row["run"], row["step"], row["recipe"]["learning_rate"]) == ("lamp-2", 1, 1e-5)
        assert "did you mean state" in refused(capsys, "--filter", "stat = lost")

    def test_no_runs_say_how_to_get_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert "demo makes one" in printed(capsys)


class TestLabel:
    def test_labels_are_kept_and_archived_runs_are_not_listed(
        self, runs: Runs, capsys: Printed
    ) -> None:
        words = ("--tag", "good", "--title", "Night", "--notes", "the best", "--archive")
        assert "Night  good  archived  the best" in printed(capsys, "label", "lamp-1", *words)
        assert read_labels(runs[0]).tags == ("good",)
        assert "Night" not in printed(capsys)
        assert "Night" in printed(capsys, "--archived")
        found = json.loads(printed(capsys, "label", "lamp-1", "--no-archive", "--json"))
        assert (found[0]["archived"], found[0]["notes"]) == (False, "the best")


class TestDiff:
    def test_between_runs(self, runs: Runs, capsys: Printed) -> None:
        lines = printed(capsys, "diff", "lamp-1", "lamp-2").splitlines()
        assert [each.split() for each in lines] == [
            ["lamp-1", "lamp-2"],
            ["learning_rate", "2e-4", "1e-5"],
        ]

    def test_since_a_run(self, runs: Runs, tmp_path: Path, capsys: Printed) -> None:
        recipes.save(OTHER, tmp_path / "recipe.yaml")
        found = json.loads(printed(capsys, "diff", "lamp-1", "--json"))
        changed = {each["name"]: each["values"] for each in found}
        assert changed["learning_rate"] == {"lamp-1": 2e-4, "now": 1e-5}


def test_a_recipe_starts_again(runs: Runs, capsys: Printed) -> None:
    text = printed(capsys, "recipe", "lamp-2", "--set", "iters=7")
    again = recipes.from_mapping(parse_yaml(text, "recipe"))
    assert again == recipes.replace(OTHER, "iters", 7)


def test_a_report_is_written_into_a_folder_of_its_own(
    runs: Runs, tmp_path: Path, capsys: Printed
) -> None:
    for _ in range(2):
        printed(capsys, "report", "lamp-1", "lamp-2", "--out", "pages/report")
    page = (tmp_path / "pages" / "report" / "report.md").read_text()
    assert "![Training loss" in page
    assert "holds something else" in refused(capsys, "report", "--out", "pages")


class TestDelete:
    def test_all_but_the_best(self, runs: Runs, capsys: Printed) -> None:
        would = json.loads(printed(capsys, "delete", "--keep-best", "1", "--dry-run", "--json"))
        assert [each["run"] for each in would["deleted"]] == ["lamp-2"]
        assert would["freed"] == would["deleted"][0]["freed"] > 0
        assert runs[1].path.exists()
        assert "add --yes" in refused(capsys, "delete", "--keep-best", "1")
        assert "1 run of 2 freed" in printed(capsys, "delete", "--keep-best", "1", "--yes")
        assert [each.path.exists() for each in runs] == [True, False]

    def test_what_cannot_be_deleted_is_said(self, runs: Runs, capsys: Printed) -> None:
        with runs[1].locked():
            said = refused(capsys, "delete", "lamp-2", "--yes")
        assert "lamp-2 can't be deleted: it is running; stop it first." in said
        assert "Nothing says which runs" in refused(capsys, "delete")
        assert runs[1].path.exists()


def test_a_project_is_named_before_or_after_the_action(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    for words in (("--dir", "..", "recipe", "lamp-1"), ("recipe", "lamp-1", "--dir", "..")):
        assert "learning_rate" in printed(capsys, *words)
