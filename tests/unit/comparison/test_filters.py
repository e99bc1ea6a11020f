"""Filters and sorting of the table of runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from mlxft.comparison.columns import find_order, sorted_rows
from mlxft.comparison.filters import parse_filter
from mlxft.comparison.labels import Labels
from mlxft.comparison.summary import Summary
from mlxft.comparison.table import RunRow
from mlxft.errors import RunError
from mlxft.runs.directory import RunDirectory
from mlxft.runs.view import State

NOW = 1_800_000_000.0


def row(
    name: str, state: State = "finished", labels: Labels | None = None, **said: object
) -> RunRow:
    return RunRow(
        directory=RunDirectory(Path("adapters") / name),
        summary=replace(Summary(recipe={}), **said),
        state=state,
        labels=labels or Labels(),
    )


ROWS = (
    row(
        "a-2",
        recipe={"model": "mlx-community/Qwen3-4B-4bit", "learning_rate": 2e-4},
        validation_loss=1.1,
        peak_memory=9_000_000_000,
        seconds=7200.0,
        started=NOW - 3600,
        labels=Labels(tags=("good", "two words"), notes="the one to keep"),
    ),
    row(
        "a-10",
        "failed",
        Labels(name="Night run", archived=True),
        recipe={"model": "SmolLM2", "mask_prompt": True, "lora_parameters.rank": 16},
        validation_loss=1.4,
        started=NOW - 5 * 86400,
    ),
    row("b", "running"),
)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", "a-2 a-10 b"),
        ("validation_loss < 1.2 and model ~ QWEN and tag:good and not archived", "a-2"),
        ("validation_loss<1.2 or state=RUNNING", "a-2 b"),
        ("not (tag:good or archived)", "b"),
        ("not tag:good and archived or live", "a-10 b"),
        ('tag:"two words"', "a-2"),
        ("tags = good", "a-2"),
        ("tags != good", "a-10 b"),
        ("validation_loss = none", "b"),
        ("validation_loss != none", "a-2 a-10"),
        ("validation_loss >= 1.4", "a-10"),
        ("validation_loss != 1.4", "a-2 b"),
        ("peak_memory > 8GB", "a-2"),
        ("seconds >= 2h", "a-2"),
        ("started > -2d", "a-2"),
        ("started < 2027-01-14", "a-10"),
        ("lora_parameters.rank = 16 or learning_rate >= 2e-4", "a-2 a-10"),
        ("rank=8", "a-2 b"),
        ("recipe.loss = sft and recipe.rank > 8", "a-10"),
        ("name ~ night", "a-10"),
        ("model !~ qwen", "a-10 b"),
        ('"keep"', "a-2"),
        ("'qwen' or \"NIGHT\"", "a-2 a-10"),
        ("archived = no", "a-2 b"),
    ],
)
def test_a_filter_keeps_what_it_says(text: str, kept: str) -> None:
    keeps = parse_filter(text, NOW)
    assert [each.run for each in ROWS if keeps(each)] == kept.split()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("los < 1", r"character 1: los is not a column; did you mean loss\?$"),
        ("lamp", "character 1: lamp is not a column; put text to search in quotes"),
        ("loss <", "character 7: the end is where a value for loss is missing"),
        ("loss", "character 1: loss is compared with nothing; write loss = VALUE"),
        ("loss < 1 and", "character 13: the end is where a condition is missing"),
        ("loss < low", "character 8: low can't be compared with loss; it must be a number"),
        ("peak_memory < 8XB", "character 15: 8XB .* a size as 8GB"),
        ("rank = big", "character 8: big can't be compared with lora_parameters.rank; .*whole"),
        ("(loss < 1", r"character 1: \( isn't closed; add a \)"),
        ("loss < 1 state = failed", "character 10: state isn't joined .* `and` or `or`"),
        ('name ~ "open', "character 8: \" can't be read; close it"),
        ("archived > yes", "character 12: > can't compare archived; use = or !="),
        ("started > soon", "character 11: soon .* a date as 2026-01-31"),
        ("state = bogus", "character 9: bogus is no state; a run is starting, .* failed or lost"),
        ("tag: and live", "character 1: tag: names no tag"),
        (f"{'(' * 60}live{')' * 60}", r"character 51: \( is within more than 50 brackets"),
        (f"{'not ' * 5000}live", "character 201: not is within more than 50 brackets"),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, said: str) -> None:
    with pytest.raises(RunError, match=f"^Filter, {said}"):
        parse_filter(text, NOW)


@pytest.mark.parametrize(
    ("order", "sorted_names"),
    [
        ("run", "a-2 a-10 b"),
        ("-run", "b a-10 a-2"),
        ("validation_loss", "a-2 a-10 b"),
        ("-validation_loss", "a-10 a-2 b"),
        ("rank,-validation_loss", "a-2 b a-10"),
    ],
)
def test_rows_without_a_value_are_last_either_way(order: str, sorted_names: str) -> None:
    assert [each.run for each in sorted_rows(ROWS, find_order(order))] == sorted_names.split()


def test_long_numbers_in_texts_are_sorted() -> None:
    notes = ["7", "1" + "0" * 5000, "007 ", "10"]
    rows = [row(str(at), labels=Labels(notes=each)) for at, each in enumerate(notes)]
    assert [each.run for each in sorted_rows(rows, find_order("notes"))] == ["0", "2", "3", "1"]


def test_a_column_is_found_by_its_heading() -> None:
    assert [each.column.id for each in find_order("age,-val,rank")] == [
        "last_time",
        "validation_loss",
        "lora_parameters.rank",
    ]


def test_an_unknown_column_to_sort_by_is_refused() -> None:
    with pytest.raises(RunError, match="did you mean validation_loss"):
        find_order("validaton_loss")
