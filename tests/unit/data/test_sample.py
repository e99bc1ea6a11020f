"""The sample dataset is what its generator writes and suits the demo."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from mlxft.data.dataset import load_split, require_trainable
from mlxft.data.split_files import SplitName
from mlxft.recipe import Recipe
from mlxft.storage.paths import sample_data

DATA = Path(__file__).parents[3] / "data"
SIZES: dict[SplitName, int] = {"train": 300, "valid": 50, "test": 50}


@pytest.fixture(scope="module")
def generator() -> dict[str, Any]:
    return runpy.run_path(str(DATA / "make_sample.py"))


def rows() -> list[dict[str, str]]:
    return [record.fields for name in SIZES for record in load_split(DATA, name).records]


class TestSampleData:
    def test_the_generator_writes_the_committed_files_byte_for_byte(
        self, generator: dict[str, Any], tmp_path: Path
    ) -> None:
        generator["write"](tmp_path)
        for name in SIZES:
            file = f"{name}.jsonl"
            assert (tmp_path / file).read_bytes() == (DATA / file).read_bytes()

    def test_the_splits_have_their_sizes_and_no_fault(self) -> None:
        for name, size in SIZES.items():
            split = load_split(DATA, name)
            assert len(split.records) == size
            assert split.faults == ()

    def test_the_application_finds_it_and_can_train_on_it(self) -> None:
        require_trainable(sample_data(), Recipe(train_on="last_answer"))

    def test_every_completion_is_one_line_of_json_with_the_keys_of_its_intent(
        self, generator: dict[str, Any]
    ) -> None:
        keys = {each.name: ["intent", *each.slots] for each in generator["INTENTS"]}
        for row in rows():
            answer = json.loads(row["completion"])
            assert "\n" not in row["completion"]
            assert list(answer) == keys[answer["intent"]]

    def test_requests_and_answers_are_unique(self) -> None:
        everything = rows()
        assert len({row["prompt"] for row in everything}) == 400
        assert len({row["completion"] for row in everything}) == 400

    def test_requests_are_short_with_an_instruction(self, generator: dict[str, Any]) -> None:
        for row in rows():
            assert row["prompt"].startswith(generator["INSTRUCTION"])
            assert len(row["prompt"].split()) < 25

    def test_requests_are_proper_sentences(self) -> None:
        for row in rows():
            text = row["prompt"].lower()
            assert not re.search(
                r"(can|could) you (don't|please|the|i|we|what|will|is|do|how)\b", text
            )
            assert not re.search(r"\?\?|\.\.| ,", text)

    def test_copied_values_are_in_the_request(self) -> None:
        for row in rows():
            intent, *values = json.loads(row["completion"]).values()
            assert intent
            assert all(value in row["prompt"] for value in values if isinstance(value, str))
