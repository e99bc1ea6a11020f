"""Fields and roles renamed as the user chose."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlxft.data.columns import renamed, turn_fields, turn_roles
from mlxft.data.validation import read_line

ASKED = {"role": "user", "content": "a"}
ANSWERED = {"role": "assistant", "content": "b"}
SPOKEN = [{"speaker": "user", "utterance": "a"}, {"speaker": "assistant", "utterance": "b"}]
MESSAGE_KEYS = {"role": "speaker", "content": "utterance"}


class TestMessages:
    @pytest.mark.parametrize(
        "turns",
        [
            SPOKEN,
            json.dumps(SPOKEN),
            {"speaker": ["user", "assistant"], "utterance": ["a", "b"]},
        ],
    )
    def test_keys_of_messages_are_renamed(self, turns: object) -> None:
        columns = {"messages": "dialog", **MESSAGE_KEYS}
        line = read_line(json.dumps({"dialog": turns, "id": 1}).encode(), "x", 1, columns)
        assert line.faults == ()
        assert line.fields is not None
        assert line.fields["messages"] == [ASKED, ANSWERED]

    def test_fields_of_the_record_itself_are_not(self) -> None:
        record = {"speaker": "x", "prompt": "a", "completion": "b"}
        assert renamed(record, MESSAGE_KEYS) == record

    def test_keys_of_chosen_messages_are_renamed(self) -> None:
        record: dict[str, Any] = {"chosen": SPOKEN, "rejected": SPOKEN}
        line = read_line(json.dumps(record).encode(), "x", 1, MESSAGE_KEYS)
        assert line.fields is not None
        assert line.fields["messages"] == [ASKED, ANSWERED]

    def test_keys_are_listed_from_the_chosen_conversation(self) -> None:
        record = {"dialog": SPOKEN, "id": 1}
        assert turn_fields([record], {"messages": "dialog"}) == ("speaker", "utterance")


class TestRoles:
    @pytest.mark.parametrize(
        ("user", "assistant"),
        [("customer", "agent"), ("Client", "Operator"), ("question", "answer"), ("human", "gpt")],
    )
    def test_usual_role_names_are_recognized_with_a_chosen_key(
        self, user: str, assistant: str
    ) -> None:
        turns = [{"speaker": user, "content": "a"}, {"speaker": assistant, "content": "b"}]
        record = {"messages": turns}
        assert renamed(record, {"role": "speaker"}) == {"messages": [ASKED, ANSWERED]}

    def test_usual_role_names_are_recognized_in_sharegpt(self) -> None:
        turns = [{"from": "customer", "value": "a"}, {"from": "agent", "value": "b"}]
        line = read_line(json.dumps({"conversations": turns}).encode(), "x", 1)
        assert line.fields is not None
        assert line.fields["messages"] == [ASKED, ANSWERED]

    def test_any_role_name_can_be_mapped(self) -> None:
        columns = {"user": "agent", "assistant": "mum"}
        turns = [{"role": "agent", "content": "a"}, {"role": "mum", "content": "b"}]
        assert renamed({"messages": turns}, columns) == {"messages": [ASKED, ANSWERED]}
        as_table = {"role": ["agent", "mum"], "content": ["a", "b"]}
        line = read_line(json.dumps({"messages": as_table}).encode(), "x", 1, columns)
        assert line.fields is not None
        assert line.fields["messages"] == [ASKED, ANSWERED]

    def test_unknown_role_names_are_faults(self) -> None:
        turns = [{"role": "customer", "content": "a"}, ANSWERED]
        line = read_line(json.dumps({"messages": turns}).encode(), "x", 1)
        assert [each.kind for each in line.faults] == ["roles"]

    def test_roles_are_listed_from_the_chosen_conversation(self) -> None:
        columns = {"messages": "dialog", "role": "speaker"}
        assert turn_roles([{"dialog": SPOKEN}], columns) == ("user", "assistant")


class TestFaults:
    def test_they_use_the_names_in_the_file(self) -> None:
        line = read_line(
            b'{"ask": "", "reply": "b"}', "x", 1, {"prompt": "ask", "completion": "reply"}
        )
        assert [each.problem for each in line.faults] == ["the ask is empty"]
