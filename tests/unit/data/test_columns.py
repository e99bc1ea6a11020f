"""Fields under the names that a person has told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlxft.data.columns import renamed, turn_fields
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
        assert turn_fields(record, {"messages": "dialog"}) == ("speaker", "utterance")


class TestFaults:
    def test_they_name_the_field_as_it_is_written(self) -> None:
        line = read_line(
            b'{"ask": "", "reply": "b"}', "x", 1, {"prompt": "ask", "completion": "reply"}
        )
        assert [each.problem for each in line.faults] == ["the ask is empty"]
