"""Fields under the names that a person has told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlxft.data.columns import renamed, turn_fields, turn_roles
from mlxft.data.validation import read_line

ASKED = {"role": "user", "content": "a"}
ANSWERED = {"role": "assistant", "content": "b"}
SPOKEN = [{"speaker": "user", "utterance": "a"}, {"speaker": "assistant", "utterance": "b"}]
OF_MESSAGES = {"role": "speaker", "content": "utterance"}


class TestMessages:
    @pytest.mark.parametrize(
        "turns",
        [
            SPOKEN,
            json.dumps(SPOKEN),
            {"speaker": ["user", "assistant"], "utterance": ["a", "b"]},
        ],
    )
    def test_their_keys_are_told_too(self, turns: object) -> None:
        columns = {"messages": "dialog", **OF_MESSAGES}
        line = read_line(json.dumps({"dialog": turns, "id": 1}).encode(), "x", 1, columns)
        assert line.faults == ()
        assert line.fields is not None
        assert line.fields["messages"] == [ASKED, ANSWERED]

    def test_a_records_own_fields_of_such_names_stay(self) -> None:
        record = {"speaker": "x", "prompt": "a", "completion": "b"}
        assert renamed(record, OF_MESSAGES) == record

    def test_both_sides_of_a_preference_have_them(self) -> None:
        record: dict[str, Any] = {"chosen": SPOKEN, "rejected": SPOKEN}
        line = read_line(json.dumps(record).encode(), "x", 1, OF_MESSAGES)
        assert line.fields is not None
        assert line.fields["messages"] == [ASKED, ANSWERED]

    def test_there_are_those_of_the_conversation_that_was_told(self) -> None:
        record = {"dialog": SPOKEN, "id": 1}
        assert turn_fields([record], {"messages": "dialog"}) == ("speaker", "utterance")


class TestRoles:
    @pytest.mark.parametrize(
        ("asks", "answers"),
        [("customer", "agent"), ("Client", "Operator"), ("question", "answer"), ("human", "gpt")],
    )
    def test_usual_names_are_known_where_the_key_of_roles_is_told(
        self, asks: str, answers: str
    ) -> None:
        turns = [{"speaker": asks, "content": "a"}, {"speaker": answers, "content": "b"}]
        record = {"messages": turns}
        assert renamed(record, {"role": "speaker"}) == {"messages": [ASKED, ANSWERED]}

    def test_so_they_are_in_turns_from_someone(self) -> None:
        turns = [{"from": "customer", "value": "a"}, {"from": "agent", "value": "b"}]
        line = read_line(json.dumps({"conversations": turns}).encode(), "x", 1)
        assert line.fields is not None
        assert line.fields["messages"] == [ASKED, ANSWERED]

    def test_any_name_can_be_told(self) -> None:
        columns = {"user": "agent", "assistant": "mum"}
        turns = [{"role": "agent", "content": "a"}, {"role": "mum", "content": "b"}]
        assert renamed({"messages": turns}, columns) == {"messages": [ASKED, ANSWERED]}
        as_table = {"role": ["agent", "mum"], "content": ["a", "b"]}
        line = read_line(json.dumps({"messages": as_table}).encode(), "x", 1, columns)
        assert line.fields is not None
        assert line.fields["messages"] == [ASKED, ANSWERED]

    def test_others_stay_faults(self) -> None:
        turns = [{"role": "customer", "content": "a"}, ANSWERED]
        line = read_line(json.dumps({"messages": turns}).encode(), "x", 1)
        assert [each.kind for each in line.faults] == ["roles"]

    def test_there_are_those_of_the_conversation_that_was_told(self) -> None:
        columns = {"messages": "dialog", "role": "speaker"}
        assert turn_roles([{"dialog": SPOKEN}], columns) == ("user", "assistant")


class TestFaults:
    def test_they_name_the_field_as_it_is_written(self) -> None:
        line = read_line(
            b'{"ask": "", "reply": "b"}', "x", 1, {"prompt": "ask", "completion": "reply"}
        )
        assert [each.problem for each in line.faults] == ["the ask is empty"]
