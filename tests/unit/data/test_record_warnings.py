"""Warnings about what a record loses, and records that say that they must not be trained."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from mlxft.data.checking import Report, check
from mlxft.data.data_warnings import data_warnings
from mlxft.data.dataset import load_split
from mlxft.data.messages import weight_of
from mlxft.data.validation import RecordLine, read_line
from support.records import write_records

ASKED = {"role": "user", "content": "a"}
GOOD = {"role": "assistant", "content": "b"}
BAD = {"role": "assistant", "content": "c"}
PAIR = {"prompt": "a", "completion": "b"}
SHARED = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]


def line(fields: dict[str, Any]) -> RecordLine:
    return read_line(json.dumps(fields).encode(), "train.jsonl", 1)


class TestPlaceholders:
    @pytest.mark.parametrize(
        "fields",
        [
            {"prompt": "<image>What is it?", "completion": "b"},
            {"text": "It shows <image> here"},
            {"messages": [{"role": "user", "content": "What is it? <image>"}, GOOD]},
            {"instruction": "What is <image>?", "output": "b", "source": "x"},
        ],
    )
    def test_a_text_that_refers_to_an_image_is_named(self, fields: dict[str, Any]) -> None:
        (warning,) = line(fields).warnings
        assert warning.problem == "the text has <image>, but only text is given to the model"

    def test_tags_of_xml_are_texts(self) -> None:
        assert line({"text": "<image><url>a.png</url></image>"}).warnings == ()

    def test_they_are_counted_among_plain_records(self, tmp_path: Path) -> None:
        asked = {"prompt": "<|image_pad|> What is it?", "completion": "b"}
        write_records(tmp_path / "train.jsonl", [PAIR, asked, PAIR, asked])
        found: list[Report] = []
        check([tmp_path / "train.jsonl"], {}, found.append, lambda: True)
        (warning,) = (each for each in data_warnings(found[-1]) if each.kind == "lost")
        assert warning.line == 2
        assert warning.problem.endswith("to the model (2 records)")


class TestUnusedColumns:
    @pytest.mark.parametrize(
        ("fields", "column"),
        [
            ({**PAIR, "reasoning": "since it is so"}, "reasoning"),
            ({"Question": "a", "Plan": "go and see it", "Response": "b"}, "plan"),
            ({"question": "a", "solution": "as it is so", "answer": "b"}, "solution"),
            ({"text": "x", "instruction": "why is it so"}, "instruction"),
            ({"messages": [ASKED, GOOD], "thought": "as it is so"}, "thought"),
            ({**PAIR, "generations": ["as it is so", "x"]}, "generations"),
            ({**PAIR, "options": ["x", "y"]}, "options"),
            ({"messages": [ASKED, GOOD], "prompt": "why is it so"}, "prompt"),
            ({**PAIR, "text": "all of another page"}, "text"),
            (
                {"system": "s", "messages": [{"role": "system", "content": "t"}, ASKED, GOOD]},
                "system",
            ),
            ({"messages": [ASKED, {**GOOD, "rationale": "as it is so"}]}, "rationale in messages"),
        ],
    )
    def test_they_are_named(self, fields: dict[str, Any], column: str) -> None:
        (warning,) = line(fields).warnings
        assert warning.problem == f"the text of {column} isn't trained"

    @pytest.mark.parametrize(
        "fields",
        [
            {**PAIR, "source": "a list of sites"},
            {**PAIR, "split_key": "train-7"},
            {**PAIR, "rank": 3, "tags": ["a b c d"]},
            {"text": "x", "headline": "words of a page"},
            {**PAIR, "chosen": "only one side here"} | {"rejected": "b"},
            {"messages": [ASKED, GOOD], "prompt": "a", "rejected_response": "not this one here"},
            {**PAIR, "text": "Question: a Answer: b"},
            {"messages": [{**ASKED, "content": "why is it so"}, GOOD], "problem": "why is it so"},
        ],
    )
    def test_metadata_is_not(self, fields: dict[str, Any]) -> None:
        assert [each for each in line(fields).warnings if "chosen" not in each.problem] == []


class TestLabels:
    @pytest.mark.parametrize(
        "fields",
        [
            {**PAIR, "label": False},
            {"messages": [ASKED, GOOD], "label": False},
            {"prompt": [ASKED], "completion": [GOOD], "label": False},
            {"conversations": SHARED, "kto_tag": False},
            {"instruction": "a", "output": "b", "kto_tag": False},
            {**PAIR, "label": "False"},
        ],
    )
    def test_a_bad_answer_is_not_trained(self, fields: dict[str, Any]) -> None:
        found = line(fields)
        assert found.format == "preference, liked answers"
        assert found.faults == ()
        assert found.trained is None
        key = "label" if "label" in fields else "kto_tag"
        assert line({**fields, key: True}).trained is not None

    def test_a_class_of_a_text_is_not_a_label(self) -> None:
        assert line({"text": "x", "label": False}).trained is not None

    def test_they_are_left_out_and_counted(self, tmp_path: Path) -> None:
        rows = [{**PAIR, "prompt": f"{n}", "label": n % 3 > 0} for n in range(9)]
        write_records(tmp_path / "train.jsonl", rows)
        split = load_split(tmp_path, "train")
        assert [record.line for record in split.records] == [2, 3, 5, 6, 8, 9]
        assert split.faults == ()
        found: list[Report] = []
        check([split.path], {}, found.append, lambda: True)
        assert found[-1].statistics is not None
        assert (found[-1].statistics.records, found[-1].statistics.excluded) == (6, 3)
        (warning,) = data_warnings(found[-1])
        assert (warning.kind, warning.line) == ("excluded", 1)
        assert "only loss kto trains (3 records)" in warning.problem


FLAGS = (
    {"weight": 0},
    {"loss_weight": 0.0},
    {"loss_mask": 0},
    {"train": False},
    {"training": False},
    {"loss": False},
    {"masked": True},
    {"mask": True},
    {"weight": "0.0"},
    {"train": "False"},
)


class TestFlags:
    @pytest.mark.parametrize("flag", FLAGS)
    def test_a_record_whose_answers_are_all_flagged_is_not_trained(
        self, flag: dict[str, Any]
    ) -> None:
        assert line({"messages": [ASKED, {**BAD, **flag}]}).trained is None
        assert line({"messages": [ASKED, {**BAD, **flag}, ASKED, GOOD]}).trained is not None

    @pytest.mark.parametrize("flag", FLAGS)
    def test_a_flagged_record_is_not_trained(self, flag: dict[str, Any]) -> None:
        assert line({**PAIR, **flag}).trained is None

    def test_any_weight_from_0_on_is_trained_as_it_is(self) -> None:
        turns = [ASKED, GOOD, ASKED, {**BAD, "weight": 0}, ASKED, {**GOOD, "weight": 2.5}]
        assert line({"messages": turns}).warnings == ()
        assert line({**PAIR, "weight": 0.5}).warnings == ()

    def test_a_weight_that_no_loss_can_have_is_a_fault(self) -> None:
        for weight, shown in ((-1, "-1"), ("-1", "-1"), (10**400, "inf")):
            for fields in (
                {**PAIR, "weight": weight},
                {"messages": [ASKED, {**GOOD, "weight": weight}]},
            ):
                (fault,) = line(fields).faults
                assert f"is {shown}; write a number of 0 or more" in str(fault)

    def test_a_weight_may_be_the_text_of_a_csv_file(self) -> None:
        assert [weight_of({"weight": each}) for each in ("0.5", " 2 ", "heavy", "1e999999")] == [
            0.5,
            2.0,
            1.0,
            math.inf,
        ]

    @pytest.mark.parametrize("role", [["user"], {"a": 1}, None, 5])
    def test_a_role_of_another_type_is_a_fault(self, role: object) -> None:
        (fault,) = line({"messages": [{"role": role, "content": "Q"}, GOOD]}).faults
        assert "message 1 has" in str(fault)

    def test_flagged_parts_are_warned_about(self) -> None:
        parts = [
            {"type": "text", "text": "Hm. ", "train": False},
            {"type": "text", "text": "b", "train": True},
        ]
        (warning,) = line({"messages": [ASKED, {**GOOD, "content": parts}]}).warnings
        assert "parts of an answer are marked as not to be trained" in warning.problem
