"""Record formats are detected record by record."""

from __future__ import annotations

import pytest

from mlxft.data.formats import RecordPart, conversation, detect, parts

CHAT = {
    "messages": [
        {"role": "user", "content": "Two and two?"},
        {"role": "assistant", "content": "Four."},
    ]
}


class TestDetection:
    @pytest.mark.parametrize(
        ("fields", "name"),
        [
            ({"prompt": "a", "completion": "b"}, "prompt/completion"),
            (CHAT, "messages"),
            ({"text": "a"}, "text"),
            ({"text": "a", "prompt": "b", "completion": "c"}, "prompt/completion"),
            ({"text": "a", **CHAT}, "messages"),
            ({"text": "a", "prompt": "b"}, "text"),
        ],
    )
    def test_precedence_is_that_of_mlx_lm(self, fields: dict[str, object], name: str) -> None:
        found = detect(fields)
        assert found is not None
        assert found.name == name

    def test_other_keys_match_no_format(self) -> None:
        assert detect({"instruction": "a", "output": "b"}) is None


class TestParts:
    def test_parts_come_in_reading_order(self) -> None:
        assert parts({"completion": "b", "prompt": "a"}) == (
            RecordPart("prompt", "a"),
            RecordPart("completion", "b"),
        )
        assert parts(CHAT) == (RecordPart("user", "Two and two?"), RecordPart("assistant", "Four."))

    def test_tools_and_tool_calls_are_shown_as_json(self) -> None:
        call = {"role": "assistant", "content": None, "tool_calls": [{"id": 1}]}
        assert parts({"messages": [call], "tools": [{"name": "f"}]}) == (
            RecordPart("tools", '[{"name":"f"}]'),
            RecordPart("assistant", '[{"id":1}]'),
        )

    @pytest.mark.parametrize(
        "fields",
        [
            {"messages": None},
            {"messages": ["hello", {"content": 3}, {"role": ["user"]}]},
            {"prompt": 1, "completion": None},
            {"strange": {"deep": [1]}},
            {},
        ],
    )
    def test_a_broken_record_has_parts_too(self, fields: dict[str, object]) -> None:
        assert all(isinstance(part.text, str) for part in parts(fields))


class TestConversation:
    def test_prompt_and_completion_become_messages(self) -> None:
        assert conversation({"prompt": "a", "completion": "b"}) == [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
        ]

    def test_messages_are_returned_and_text_has_none(self) -> None:
        assert conversation(CHAT) == CHAT["messages"]
        assert conversation({"text": "a"}) is None
