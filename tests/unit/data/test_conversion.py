"""Records in other tools' formats become what mlx-lm trains."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlxft.data.conversion import converted
from mlxft.data.validation import read_line

ASKED = {"role": "user", "content": "a"}
ANSWERED = {"role": "assistant", "content": "b"}
SYSTEM = {"role": "system", "content": "s"}
CALL = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
CALLING = {"role": "assistant", "content": "", "tool_calls": [CALL]}
TOOL = {"type": "function", "function": {"name": "f"}}
RESULT = {"role": "tool", "content": "2"}
BAD = {"role": "assistant", "content": "c"}
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
            "tools": [TOOL],
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
        {"messages": [ASKED, CALLING]},
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

CALL_TEXT = {"type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
BARE_CALL = {"name": "f", "arguments": {"x": 1}}
TALK = {"messages": [ASKED, ANSWERED]}

TOOL_CASES: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
    (
        "arguments as text",
        {"messages": [ASKED, {**CALLING, "tool_calls": [CALL_TEXT]}]},
        {"messages": [ASKED, CALLING]},
    ),
    (
        "no arguments",
        {"messages": [ASKED, {**CALLING, "tool_calls": [{"function": {"name": "f"}}]}]},
        {
            "messages": [
                ASKED,
                {
                    **CALLING,
                    "tool_calls": [
                        {"type": "function", "function": {"name": "f", "arguments": {}}}
                    ],
                },
            ]
        },
    ),
    (
        "null beside a call",
        {"messages": [ASKED, {**CALLING, "content": None, "name": None}]},
        {"messages": [ASKED, CALLING]},
    ),
    (
        "no content beside a call",
        {"messages": [ASKED, {"role": "assistant", "tool_calls": [CALL]}]},
        {"messages": [ASKED, CALLING]},
    ),
    (
        "bare calls",
        {"messages": [ASKED, {**CALLING, "tool_calls": [BARE_CALL]}]},
        {"messages": [ASKED, CALLING]},
    ),
    (
        "calls as text",
        {"messages": [ASKED, {**CALLING, "tool_calls": json.dumps([CALL])}]},
        {"messages": [ASKED, CALLING]},
    ),
    (
        "no calls",
        {"messages": [ASKED, {**ANSWERED, "tool_calls": []}]},
        TALK,
    ),
    (
        "parallel calls as turns",
        {
            "messages": [
                ASKED,
                {"role": "tool_call", "content": json.dumps(BARE_CALL)},
                {"role": "tool_call", "content": json.dumps(BARE_CALL)},
                {"role": "tool_response", "content": "2"},
                ANSWERED,
            ]
        },
        {"messages": [ASKED, {**CALLING, "tool_calls": [CALL, CALL]}, RESULT, ANSWERED]},
    ),
    (
        "a call after its announcement",
        {"messages": [ASKED, ANSWERED, {"role": "tool_call", "content": json.dumps(BARE_CALL)}]},
        {"messages": [ASKED, {**ANSWERED, "tool_calls": [CALL]}]},
    ),
    (
        "a call as text and its result",
        {"messages": [ASKED, {"role": "assistant", "content": "<call>f</call>"}, RESULT, ANSWERED]},
        {"messages": [ASKED, {"role": "assistant", "content": "<call>f</call>"}, RESULT, ANSWERED]},
    ),
    ("tools as text", {**TALK, "tools": json.dumps([TOOL])}, {**TALK, "tools": [TOOL]}),
    (
        "tools as text beside a completion",
        {"prompt": "a", "completion": "b", "tools": json.dumps([TOOL])},
        {"prompt": "a", "completion": "b", "tools": [TOOL]},
    ),
    ("tools as texts", {**TALK, "tools": [json.dumps(TOOL)]}, {**TALK, "tools": [TOOL]}),
    ("tools as an empty text", {**TALK, "tools": ""}, TALK),
    ("bare tools", {**TALK, "tools": [{"name": "f"}]}, {**TALK, "tools": [TOOL]}),
    ("functions", {**TALK, "functions": [{"name": "f"}]}, {**TALK, "tools": [TOOL]}),
    (
        "tools of the system message",
        {"messages": [{**SYSTEM, "tools": json.dumps([{"name": "f"}])}, ASKED, ANSWERED]},
        {"messages": [SYSTEM, ASKED, ANSWERED], "tools": [TOOL]},
    ),
    (
        "Anthropic's schema",
        {**TALK, "tools": [{"name": "f", "input_schema": {"type": "object"}}]},
        {
            **TALK,
            "tools": [
                {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
            ],
        },
    ),
    (
        "nulls in a schema",
        {**TALK, "tools": [{"type": "function", "function": {"name": "f", "description": None}}]},
        {**TALK, "tools": [TOOL]},
    ),
    (
        "functions beside empty tools",
        {**TALK, "tools": [], "functions": [{"name": "f"}]},
        {**TALK, "tools": [TOOL]},
    ),
    (
        "Bedrock's tools",
        {**TALK, "toolConfig": {"tools": [{"toolSpec": {"name": "f"}}]}},
        {**TALK, "tools": [TOOL]},
    ),
    (
        "a result that is an object",
        {"messages": [ASKED, CALLING, {"role": "tool", "content": {"x": 2}}, ANSWERED]},
        {"messages": [ASKED, CALLING, {"role": "tool", "content": '{"x":2}'}, ANSWERED]},
    ),
    (
        "a result that is a number",
        {"messages": [ASKED, CALLING, {"role": "tool", "content": 2}, ANSWERED]},
        {"messages": [ASKED, CALLING, RESULT, ANSWERED]},
    ),
    (
        "a result that is a list of objects",
        {"messages": [ASKED, CALLING, {"role": "tool", "content": [{"x": 2}]}, ANSWERED]},
        {"messages": [ASKED, CALLING, {"role": "tool", "content": '[{"x":2}]'}, ANSWERED]},
    ),
    (
        "calls that answer a question",
        {"query": "a", "answers": json.dumps([BARE_CALL]), "tools": json.dumps([{"name": "f"}])},
        {"messages": [ASKED, CALLING], "tools": [TOOL]},
    ),
    (
        "tools beside a preference",
        {"chosen": [ASKED, CALLING], "rejected": [ASKED, BAD], "tools": json.dumps([TOOL])},
        {"messages": [ASKED, CALLING], "tools": [TOOL]},
    ),
)

SHAPES: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
    (
        "the input of a preference",
        {"instruction": "a", "input": "i", "chosen": "b", "rejected": "c"},
        {"prompt": "a\n\ni", "completion": "b"},
    ),
    (
        "a preference with an input as its prompt",
        {"system": "s", "input": "a", "chosen": "b", "rejected": "c"},
        {"messages": [SYSTEM, ASKED, ANSWERED]},
    ),
    (
        "a preference after messages",
        {"messages": [SYSTEM, ASKED], "chosen": ANSWERED, "rejected": BAD},
        {"messages": [SYSTEM, ASKED, ANSWERED]},
    ),
    (
        "a preference after a ShareGPT conversation",
        {
            "conversations": [{"from": "human", "value": "a"}],
            "chosen": {"from": "gpt", "value": "b"},
            "rejected": {"from": "gpt", "value": "c"},
        },
        TALK,
    ),
    (
        "a preference with a history",
        {"prompt": "a", "history": [["a", "b"]], "chosen": "b", "rejected": "c"},
        {"messages": [ASKED, ANSWERED, ASKED, ANSWERED]},
    ),
    (
        "chosen_response",
        {"instruction": "a", "chosen_response": "b", "rejected_response": "c"},
        {"prompt": "a", "completion": "b"},
    ),
    (
        "preferred_output",
        {
            "input": {"messages": [ASKED], "tools": [TOOL], "parallel_tool_calls": True},
            "preferred_output": [ANSWERED],
            "non_preferred_output": [BAD],
        },
        {**TALK, "tools": [TOOL]},
    ),
    (
        "chosen messages in an object",
        {"prompt": "a", "chosen": {"messages": [ANSWERED]}, "rejected": {"messages": [BAD]}},
        TALK,
    ),
    (
        "a query with its history",
        {"query": "a", "response": "b", "history": [["a", "b"]], "system": "s"},
        {"messages": [SYSTEM, ASKED, ANSWERED, ASKED, ANSWERED]},
    ),
    (
        "a question about an article",
        {"article": "i", "question": "a", "answer": "b"},
        {"prompt": "a\n\ni", "completion": "b"},
    ),
    (
        "a question about passages",
        {"context": ["i", "k"], "question": "a", "response": "b"},
        {"prompt": "a\n\ni\n\nk", "completion": "b"},
    ),
    (
        "Alpaca with its own text",
        {
            "instruction": "a",
            "input": "",
            "output": "b",
            "text": "### Instruction: a ### Response: b",
        },
        {"prompt": "a", "completion": "b"},
    ),
    (
        "an answer that is a JSON array",
        {"prompt": "a", "completion": '["b"]'},
        {"prompt": "a", "completion": '["b"]'},
    ),
    (
        "an answer of JSON objects",
        {"question": "a", "answer": '[{"b": 1}]'},
        {"prompt": "a", "completion": '[{"b": 1}]'},
    ),
    (
        "an input that is a JSON array",
        {"instruction": "a", "input": '["i"]', "output": "[1]"},
        {"prompt": 'a\n\n["i"]', "completion": "[1]"},
    ),
    (
        "an input that is an object",
        {"instruction": "a", "input": {"i": 1}, "output": "b"},
        {"prompt": 'a\n\n{"i":1}', "completion": "b"},
    ),
    (
        "a chosen JSON array",
        {"prompt": "a", "chosen": "[1]", "rejected": "c"},
        {"prompt": "a", "completion": "[1]"},
    ),
    (
        "texts in turns",
        {"conversations": ["a", "b", "c", "d"]},
        {
            "messages": [
                ASKED,
                ANSWERED,
                {"role": "user", "content": "c"},
                {"role": "assistant", "content": "d"},
            ]
        },
    ),
    (
        "a choice that continues its conversation",
        {
            "messages": [ASKED, ANSWERED],
            "chosen": [{"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}],
            "rejected": [{"role": "user", "content": "c"}, {"role": "assistant", "content": "e"}],
        },
        {
            "messages": [
                ASKED,
                ANSWERED,
                {"role": "user", "content": "c"},
                {"role": "assistant", "content": "d"},
            ]
        },
    ),
    (
        "a choice that repeats all but the system",
        {
            "messages": [{"role": "system", "content": "s"}, ASKED],
            "chosen": [ASKED, ANSWERED],
            "rejected": [ASKED, ANSWERED],
        },
        {"messages": [{"role": "system", "content": "s"}, ASKED, ANSWERED]},
    ),
    (
        "a refusal",
        {"messages": [ASKED, {"role": "assistant", "content": None, "refusal": "b"}]},
        TALK,
    ),
    (
        "Gemini's thoughts",
        {
            "contents": [
                {"role": "user", "parts": [{"text": "a"}]},
                {"role": "model", "parts": [{"text": "r", "thought": True}, {"text": "b"}]},
            ]
        },
        {"messages": [ASKED, {**ANSWERED, "reasoning_content": "r"}]},
    ),
    (
        "details of reasoning",
        {"messages": [ASKED, {**ANSWERED, "reasoning_details": [{"text": "r"}]}]},
        {"messages": [ASKED, {**ANSWERED, "reasoning_content": "r"}]},
    ),
    ("a text alone", {"response": "b"}, {"text": "b"}),
    ("messages as a prompt of text answers", {"prompt": [ASKED], "completion": "b"}, TALK),
    ("a text prompt of answer messages", {"prompt": "a", "completion": [ANSWERED]}, TALK),
    ("messages as a prompt of another answer", {"prompt": [ASKED], "answer": "b"}, TALK),
    (
        "roles and values",
        {"conversations": [{"role": "human", "value": "a"}, {"role": "gpt", "value": "b"}]},
        TALK,
    ),
    (
        "roles in capitals",
        {"messages": [{"role": "User", "content": "a"}, {"role": "Chatbot", "content": "b"}]},
        TALK,
    ),
    (
        "turns of question and answer",
        {"conversation": [{"system": "s", "input": "a", "output": "b"}]},
        {"messages": [SYSTEM, ASKED, ANSWERED]},
    ),
    (
        "Gemini's contents",
        {
            "systemInstruction": {"parts": [{"text": "s"}]},
            "contents": [
                {"role": "user", "parts": [{"text": "a"}]},
                {"role": "model", "parts": [{"text": "b"}]},
            ],
        },
        {"messages": [SYSTEM, ASKED, ANSWERED]},
    ),
    (
        "Bedrock's parts",
        {
            "system": [{"text": "s"}],
            "messages": [
                {"role": "user", "content": [{"text": "a"}]},
                {"role": "assistant", "content": [{"text": "b"}]},
            ],
        },
        {"messages": [SYSTEM, ASKED, ANSWERED]},
    ),
    (
        "Anthropic's thinking, call and result",
        {
            "messages": [
                ASKED,
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "t"},
                        {"type": "tool_use", "id": "1", "name": "f", "input": {"x": 1}},
                    ],
                },
                {
                    "role": "user",
                    "content": [{"type": "tool_result", "tool_use_id": "1", "content": "2"}],
                },
                ANSWERED,
            ]
        },
        {
            "messages": [
                ASKED,
                {
                    "role": "assistant",
                    "content": "",
                    "reasoning_content": "t",
                    "tool_calls": [{"id": "1", **CALL}],
                },
                {**RESULT, "tool_call_id": "1"},
                ANSWERED,
            ]
        },
    ),
    (
        "parts with values",
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "value": "a"}]},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "reasoning", "value": "t"},
                        {"type": "text", "value": "b"},
                        {"type": "tool_call", "value": json.dumps(BARE_CALL)},
                    ],
                },
            ]
        },
        {"messages": [ASKED, {**ANSWERED, "reasoning_content": "t", "tool_calls": [CALL]}]},
    ),
    (
        "reasoning beside the answer",
        {"messages": [ASKED, {**ANSWERED, "reasoning": "t"}]},
        {"messages": [ASKED, {**ANSWERED, "reasoning_content": "t"}]},
    ),
)


@pytest.mark.parametrize(
    ("fields", "trained"),
    [pytest.param(*case[1:], id=case[0]) for case in (*TOOL_CASES, *SHAPES)],
)
def test_a_shape_opens_without_configuration(
    fields: dict[str, Any], trained: dict[str, Any]
) -> None:
    line = read_line(json.dumps(fields).encode(), "train.jsonl", 1)
    assert (line.faults, line.warnings, line.excluded) == ((), (), None)
    assert line.fields == trained


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
            {"messages": [ASKED, ANSWERED], "tools": [TOOL]},
            {"text": "a"},
            {"title": "a", "body": "b"},
        ],
    )
    def test_trainable_and_unknown_records_are_unchanged(self, fields: dict[str, Any]) -> None:
        assert converted(fields).fields is fields

    def test_other_fields_are_kept(self) -> None:
        assert converted({"question": "a", "answer": "b", "id": 7}).fields["id"] == 7
