"""Records in other tools' formats become what mlx-lm trains."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlxft.data.conversion import converted

ASKED = {"role": "user", "content": "a"}
ANSWERED = {"role": "assistant", "content": "b"}
SYSTEM = {"role": "system", "content": "s"}
CALL = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
PARTS = [{"type": "text", "text": "a"}]

CASES: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
    ("Alpaca", {"instruction": "a", "output": "b"}, {"prompt": "a", "completion": "b"}),
    (
        "Alpaca",
        {"instruction": "a", "input": "i", "output": "b"},
        {"prompt": "a\n\ni", "completion": "b"},
    ),
    (
        "Alpaca",
        {"instruction": "a", "input": "", "output": "b"},
        {"prompt": "a", "completion": "b"},
    ),
    (
        "Alpaca",
        {"instruction": "a", "output": "b", "system": "s", "history": [["a", "b"]]},
        {"messages": [SYSTEM, ASKED, ANSWERED, ASKED, ANSWERED]},
    ),
    (
        "Alpaca",
        {"instruction": "a", "context": "i", "response": "b"},
        {"prompt": "a\n\ni", "completion": "b"},
    ),
    (
        "ShareGPT",
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
        {"messages": [ASKED, ANSWERED]},
    ),
    (
        "ShareGPT",
        {
            "system": "s",
            "tools": '[{"name": "f"}]',
            "conversations": [
                {"from": "human", "value": "a"},
                {"from": "function_call", "value": '{"name": "f", "arguments": {"x": 1}}'},
                {"from": "observation", "value": "2"},
                {"from": "gpt", "value": "b"},
            ],
        },
        {
            "tools": [{"name": "f"}],
            "messages": [
                SYSTEM,
                ASKED,
                {"role": "assistant", "content": "", "tool_calls": [CALL]},
                {"role": "tool", "content": "2"},
                ANSWERED,
            ],
        },
    ),
    (
        "ShareGPT",
        {"messages": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
        {"messages": [ASKED, ANSWERED]},
    ),
    (
        "ChatML text",
        {"text": "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"},
        {"messages": [ASKED, ANSWERED]},
    ),
    (
        "text",
        {"text": "<|im_start|>user\na<|im_end|>\nno turn"},
        {"text": "<|im_start|>user\na<|im_end|>\nno turn"},
    ),
    ("question/answer", {"question": "a", "answer": "b"}, {"prompt": "a", "completion": "b"}),
    (
        "question/response",
        {"system_prompt": "s", "question": "a", "response": "b"},
        {"messages": [SYSTEM, ASKED, ANSWERED]},
    ),
    (
        "question/answer",
        {"question": "a", "context": "i", "answer": "b"},
        {"prompt": "a\n\ni", "completion": "b"},
    ),
    ("input/output", {"input": "a", "output": "b"}, {"prompt": "a", "completion": "b"}),
    (
        "preference, chosen side",
        {"prompt": "a", "chosen": "b", "rejected": "c"},
        {"prompt": "a", "completion": "b"},
    ),
    (
        "preference, chosen side",
        {"prompt": "a", "chosen": [ASKED, ANSWERED], "rejected": [ASKED]},
        {"messages": [ASKED, ANSWERED]},
    ),
    (
        "preference, chosen side",
        {"prompt": [ASKED], "chosen": [ANSWERED], "rejected": [ANSWERED]},
        {"messages": [ASKED, ANSWERED]},
    ),
    (
        "preference, chosen side",
        {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": ""},
        {"messages": [ASKED, ANSWERED]},
    ),
    (
        "messages",
        {"messages": [{**ASKED, "content": PARTS}, ANSWERED]},
        {"messages": [ASKED, ANSWERED]},
    ),
    ("messages", {"messages": json.dumps([ASKED, ANSWERED])}, {"messages": [ASKED, ANSWERED]}),
    (
        "messages",
        {"messages": [ASKED, {"role": "assistant", "function_call": CALL["function"]}]},
        {"messages": [ASKED, {"role": "assistant", "tool_calls": [CALL]}]},
    ),
    (
        "prompt/completion",
        {"prompt": [ASKED], "completion": [ANSWERED]},
        {"messages": [ASKED, ANSWERED]},
    ),
    (
        "prompt/completion",
        {"prompt": "a", "completion": "b", "system": "s"},
        {"messages": [SYSTEM, ASKED, ANSWERED]},
    ),
)


class TestConversion:
    @pytest.mark.parametrize(("name", "fields", "trained"), CASES)
    def test_a_record_is_converted(
        self, name: str, fields: dict[str, Any], trained: dict[str, Any]
    ) -> None:
        assert converted(fields)[:2] == (trained, name)

    @pytest.mark.parametrize(
        "fields",
        [
            {"prompt": "a", "completion": "b"},
            {"messages": [ASKED, ANSWERED], "tools": [{"name": "f"}]},
            {"text": "a"},
            {"title": "a", "body": "b"},
        ],
    )
    def test_trainable_and_unknown_records_are_unchanged(self, fields: dict[str, Any]) -> None:
        assert converted(fields).fields is fields

    def test_other_fields_are_kept(self) -> None:
        assert converted({"question": "a", "answer": "b", "id": 7}).fields["id"] == 7
