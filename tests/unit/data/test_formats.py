"""Record formats: told apart record by record."""

from __future__ import annotations

import pytest

from mlxft.data.formats import Part, conversation, describe, detect, parts

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
    def test_a_record_has_the_format_that_mlx_lm_gives_it(
        self, fields: dict[str, object], name: str
    ) -> None:
        found = detect(fields)
        assert found is not None
        assert found.name == name

    def test_other_keys_are_no_format(self) -> None:
        assert detect({"instruction": "a", "output": "b"}) is None


class TestDescription:
    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"prompt": "a", "completion": "b"}, "prompt/completion"),
            (CHAT, "2 messages"),
            ({**CHAT, "tools": [{}, {}]}, "2 messages, 2 tools"),
            ({"text": "a"}, "text"),
            ({"question": "a"}, "unknown format"),
            ({"messages": "broken"}, "messages"),
        ],
    )
    def test_a_record_is_told_in_a_few_words(self, fields: dict[str, object], words: str) -> None:
        assert describe(fields) == words


class TestParts:
    def test_a_record_is_read_in_its_order(self) -> None:
        assert parts({"completion": "b", "prompt": "a"}) == (
            Part("prompt", "a"),
            Part("completion", "b"),
        )
        assert parts(CHAT) == (Part("user", "Two and two?"), Part("assistant", "Four."))

    def test_tools_and_tool_calls_are_shown_as_json(self) -> None:
        call = {"role": "assistant", "content": None, "tool_calls": [{"id": 1}]}
        assert parts({"messages": [call], "tools": [{"name": "f"}]}) == (
            Part("tools", '[{"name":"f"}]'),
            Part("assistant", '[{"id":1}]'),
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
    def test_a_broken_record_is_shown_all_the_same(self, fields: dict[str, object]) -> None:
        assert all(isinstance(part.text, str) for part in parts(fields))


class TestConversation:
    def test_prompt_and_completion_are_a_question_and_its_answer(self) -> None:
        assert conversation({"prompt": "a", "completion": "b"}) == [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
        ]

    def test_messages_are_themselves_and_text_is_no_conversation(self) -> None:
        assert conversation(CHAT) == CHAT["messages"]
        assert conversation({"text": "a"}) is None
