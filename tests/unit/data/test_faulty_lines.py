"""Faulty files and records, each with its exact error message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlxft.data.dataset import load_split
from mlxft.data.faults import Fault
from mlxft.data.validation import scan

GOOD = b'{"prompt": "a", "completion": "b"}\n'
ASKED = {"role": "user", "content": "a"}
ANSWERED = {"role": "assistant", "content": "b"}


def calling(arguments: object) -> dict[str, Any]:
    call = {"type": "function", "function": {"name": "switch", "arguments": arguments}}
    return {"role": "assistant", "content": "", "tool_calls": [call]}


LINES: tuple[tuple[str, bytes, str], ...] = (
    (
        "a missing comma",
        b'{"prompt": "a" "completion": "b"}',
        "invalid JSON at column 16 (expecting ',' delimiter); fix or remove the line",
    ),
    (
        "a line cut short",
        b'{"prompt": "a", "completion": "b',
        "invalid JSON at column 31 (unterminated string); fix or remove the line",
    ),
    (
        "an object not closed",
        b'{"prompt": "a", "completion": "b"',
        "invalid JSON at column 34 (expecting ',' delimiter); fix or remove the line",
    ),
    (
        "a comma too many",
        b'{"text": "a",}',
        "invalid JSON at column 14 (expecting property name enclosed in double quotes); "
        "fix or remove the line",
    ),
    (
        "a comma after the record",
        b'{"text": "a"},',
        "invalid JSON at column 14 (extra data); fix or remove the line",
    ),
    (
        "two records in a line",
        b'{"text": "a"}{"text": "b"}',
        "invalid JSON at column 14 (extra data); fix or remove the line",
    ),
    (
        "single quotes",
        b"{'text': 'a'}",
        "invalid JSON at column 2 (expecting property name enclosed in double quotes); "
        "fix or remove the line",
    ),
    (
        "names without quotes",
        b'{text: "a"}',
        "invalid JSON at column 2 (expecting property name enclosed in double quotes); "
        "fix or remove the line",
    ),
    (
        "a comment",
        b"// not yet",
        "invalid JSON at column 1 (expecting value); fix or remove the line",
    ),
    (
        "Python's None",
        b'{"text": None}',
        "invalid JSON at column 10 (expecting value); fix or remove the line",
    ),
    (
        "a tab within a text",
        b'{"text": "a\tb"}',
        "invalid JSON at column 12 (invalid control character); fix or remove the line",
    ),
    (
        "a null byte within a text",
        b'{"text": "a\0b"}',
        "invalid JSON at column 12 (invalid control character); fix or remove the line",
    ),
    (
        "a broken escape",
        b'{"text": "a\\q"}',
        "invalid JSON at column 12 (invalid \\escape); fix or remove the line",
    ),
    (
        "NaN",
        b'{"text": NaN}',
        "the JSON holds NaN, which is not a JSON value; fix or remove the line",
    ),
    (
        "a number out of range",
        b'{"text": 1e999}',
        "the JSON holds a number out of range; fix or remove the line",
    ),
    (
        "half a surrogate pair",
        b'{"text": "\\ud800"}',
        "the JSON holds half a surrogate pair; fix or remove the line",
    ),
    (
        "nested too deep",
        b"[" * 100_000,
        "the JSON is nested too deep; fix or remove the line",
    ),
    ("Latin-1", b'{"text": "caf\xe9"}', "the line is not UTF-8 text; save the file as UTF-8"),
    (
        "a byte order mark within the file",
        b'\xef\xbb\xbf{"text": "a"}',
        "the line begins with a byte order mark; remove it",
    ),
    ("a blank line", b"", "the line is blank; remove it"),
    ("a line of spaces", b" \t", "the line is blank; remove it"),
    (
        "a list",
        b'["a", "b"]',
        "this is a JSON list, not a record; "
        'write it as an object like {"prompt": "…", "completion": "…"}',
    ),
    (
        "a string",
        b'"a"',
        "this is a JSON string, not a record; "
        'write it as an object like {"prompt": "…", "completion": "…"}',
    ),
    (
        "null",
        b"null",
        'this is null, not a record; write it as an object like {"prompt": "…", "completion": "…"}',
    ),
    (
        "a number",
        b"1.5",
        "this is a number, not a record; "
        'write it as an object like {"prompt": "…", "completion": "…"}',
    ),
    (
        "true",
        b"true",
        "this is true or false, not a record; "
        'write it as an object like {"prompt": "…", "completion": "…"}',
    ),
)
"""Second lines of a file that are not records."""

RECORDS: tuple[tuple[str, dict[str, Any], str], ...] = (
    (
        "no keys",
        {},
        "the record has no keys; a record needs one of these: prompt and completion; messages; "
        "text; or choose its fields on the Data screen, or as columns in recipe.yaml",
    ),
    (
        "unknown keys",
        {"title": "a", "body": "b"},
        "the record has title, body; a record needs one of these: prompt and completion; "
        "messages; text; or choose its fields on the Data screen, or as columns in "
        "recipe.yaml",
    ),
    (
        "tokens",
        {"input_ids": [1, 2], "labels": [-100, 2]},
        "the record is tokenized already; use the dataset with its texts, which each model "
        "tokenizes its own way",
    ),
    ("no completion", {"prompt": "a"}, "the record has no completion; add it or remove the line"),
    ("no prompt", {"completion": "a"}, "the record has no prompt; add it or remove the line"),
    (
        "an empty prompt",
        {"prompt": "", "completion": "b"},
        "the prompt is empty; fill it in or remove the line",
    ),
    (
        "a completion of whitespace",
        {"prompt": "a", "completion": " \n"},
        "the completion is empty; fill it in or remove the line",
    ),
    (
        "an invisible prompt",
        {"prompt": "\u200b", "completion": "b"},
        "the prompt is empty; fill it in or remove the line",
    ),
    (
        "null for the completion",
        {"prompt": "a", "completion": None},
        "the completion is null, not text; write text instead",
    ),
    (
        "a number for the completion",
        {"prompt": "a", "completion": 3},
        "the completion is a number, not text; put it in double quotes",
    ),
    (
        "an object for the completion",
        {"prompt": "a", "completion": {"x": 1}},
        "the completion is an object, not text; write text instead",
    ),
    ("an empty text", {"text": ""}, "the text is empty; fill it in or remove the line"),
    (
        "a list for the text",
        {"text": ["a"]},
        "the text is a JSON list, not text; write text instead",
    ),
    (
        "tools that are not a list",
        {"prompt": "a", "completion": "b", "tools": "f"},
        "tools is not a list of objects; write it as a list of tool descriptions",
    ),
    ("no messages", {"messages": []}, "messages is empty; fill it in or remove the line"),
    (
        "null for the messages",
        {"messages": None},
        "messages is null, not a list; "
        'write it as a list like [{"role": "user", "content": "…"}, …]',
    ),
    (
        "a string for the messages",
        {"messages": "hello"},
        "messages is a JSON string, not a list; "
        'write it as a list like [{"role": "user", "content": "…"}, …]',
    ),
    (
        "a string for a message",
        {"messages": ["a"]},
        "message 1 is a JSON string, not a message; "
        'write it as an object like {"role": "user", "content": "…"}',
    ),
    (
        "an unknown role",
        {"messages": [ASKED, {"role": "narrator", "content": "b"}]},
        "message 2 has the role narrator; use one of system, user, assistant, tool, or map "
        "this one on the Data screen, or as columns in recipe.yaml",
    ),
    (
        "no role",
        {"messages": [{"content": "a"}, ANSWERED]},
        "message 1 has no role; use one of system, user, assistant, tool",
    ),
    (
        "no content",
        {"messages": [ASKED, {"role": "assistant"}]},
        "message 2 has no content; add it or remove the line",
    ),
    (
        "null for the content",
        {"messages": [ASKED, {"role": "assistant", "content": None}]},
        "the content of message 2 is null, not text; write text instead",
    ),
    (
        "an empty question",
        {"messages": [{"role": "user", "content": ""}, ANSWERED]},
        "the content of message 1 is empty; fill it in or remove the line",
    ),
    (
        "a list for the content",
        {"messages": [{"role": "user", "content": ["a"]}, ANSWERED]},
        "the content of message 1 is a JSON list, not text; write text instead",
    ),
    (
        "an image",
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, ANSWERED]},
        "message 1 has a part of type image_url, but only text can be trained; "
        "remove that part or the line",
    ),
    (
        "a part without text",
        {"messages": [{"role": "user", "content": [{"type": "text"}]}, ANSWERED]},
        "a part of message 1 has no text; remove that part",
    ),
    (
        "no answer at the end",
        {"messages": [ASKED, ANSWERED, ASKED]},
        "the conversation ends with the user, so there is no answer to train; "
        "end it with an assistant message or remove the line",
    ),
    (
        "a system message alone",
        {"messages": [{"role": "system", "content": "s"}]},
        "the conversation ends with the system, so there is no answer to train; "
        "end it with an assistant message or remove the line",
    ),
    (
        "a tool result without a call",
        {"messages": [ASKED, {"role": "tool", "content": "1"}, ANSWERED]},
        "a tool message has no assistant message before it; "
        "put it after the assistant's message that calls the tool",
    ),
    (
        "calls that are not a list",
        {"messages": [ASKED, {"role": "assistant", "content": None, "tool_calls": "f()"}]},
        "the tool_calls of message 2 name no function; "
        'write a call like {"type": "function", "function": {"name": "…", "arguments": {…}}}',
    ),
    (
        "a call without a name",
        {"messages": [ASKED, {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]},
        "the tool_calls of message 2 name no function; "
        'write a call like {"type": "function", "function": {"name": "…", "arguments": {…}}}',
    ),
    (
        "arguments encoded twice",
        {"messages": [ASKED, calling('"{\\"lamp\\": 1}"')]},
        "the arguments of a call in message 2 are JSON text encoded twice; "
        'write them as an object like {"city": "…"}',
    ),
    (
        "arguments that are not JSON",
        {"messages": [ASKED, calling("lamp=1")]},
        "the arguments of a call in message 2 are a JSON string, not an object; "
        'write them as an object like {"city": "…"}',
    ),
    (
        "arguments that are a list",
        {"messages": [ASKED, calling([1])]},
        "the arguments of a call in message 2 are a JSON list, not an object; "
        'write them as an object like {"city": "…"}',
    ),
    (
        "a column of images",
        {"prompt": "<image>a", "completion": "b", "images": ["lamp.png"]},
        "the record has images, but only text can be trained; "
        "remove that column to train the text alone, or remove the line",
    ),
    (
        "the path of an audio clip",
        {"prompt": "a", "completion": "b", "audio": "clips/1.wav"},
        "the record has audio, but only text can be trained; "
        "remove that column to train the text alone, or remove the line",
    ),
    (
        "Alpaca without an output",
        {"instruction": "a", "input": ""},
        "the record has no output; add it or remove the line",
    ),
    (
        "Alpaca with an empty instruction",
        {"instruction": "", "output": "b"},
        "the instruction is empty; fill it in or remove the line",
    ),
    (
        "Alpaca with null for the output",
        {"instruction": "a", "output": None},
        "the output is null, not text; write text instead",
    ),
    (
        "ShareGPT without turns",
        {"conversations": []},
        "conversations is empty; fill it in or remove the line",
    ),
    (
        "ShareGPT without a sender",
        {"conversations": [{"value": "a"}, {"from": "gpt", "value": "b"}]},
        "message 1 has no role; use one of system, user, assistant, tool",
    ),
    (
        "ShareGPT without a value",
        {"conversations": [{"from": "human"}, {"from": "gpt", "value": "b"}]},
        "message 1 has no content; add it or remove the line",
    ),
    (
        "ShareGPT without an answer",
        {"conversations": [{"from": "human", "value": "a"}]},
        "the conversation ends with the user, so there is no answer to train; "
        "end it with an assistant message or remove the line",
    ),
    (
        "a ShareGPT call without a function",
        {
            "conversations": [
                {"from": "human", "value": "a"},
                {"from": "function_call", "value": "f(1)"},
            ]
        },
        "message 2 names no function to call; "
        'write a call like {"type": "function", "function": {"name": "…", "arguments": {…}}}',
    ),
    (
        "ChatML without an answer",
        {"text": "<|im_start|>user\na<|im_end|>\n"},
        "the conversation ends with the user, so there is no answer to train; "
        "end it with an assistant message or remove the line",
    ),
    (
        "ChatML with an empty answer",
        {"text": "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"},
        "the content of message 2 is empty; fill it in or remove the line",
    ),
    (
        "an answer that is a list",
        {"question": "a", "answer": ["b"]},
        "the answer is a JSON list, not text; write text instead",
    ),
    (
        "a preference with an empty chosen side",
        {"prompt": "a", "chosen": "", "rejected": "b"},
        "the chosen is empty; fill it in or remove the line",
    ),
    (
        "a preference without chosen messages",
        {"prompt": [ASKED], "chosen": [], "rejected": [ANSWERED]},
        "chosen is empty; fill it in or remove the line",
    ),
    (
        "messages with other keys",
        {"messages": [{"speaker": "user", "utterance": "a"}, ANSWERED]},
        "message 1 has no role; use one of system, user, assistant, tool, "
        "or choose the key of the role on the Data screen, or as columns in recipe.yaml",
    ),
    (
        "message contents with another key",
        {"messages": [{"role": "user", "utterance": "a"}, ANSWERED]},
        "message 1 has no content; add it or remove the line, or choose its key on the "
        "Data screen, or as columns in recipe.yaml",
    ),
    (
        "a preference of two lists without an answer",
        {"chosen": [ASKED], "rejected": [ASKED]},
        "the conversation ends with the user, so there is no answer to train; "
        "end it with an assistant message or remove the line",
    ),
)
"""Records that can't be trained."""


def faults(path: Path) -> list[Fault]:
    return [fault for line in scan(path) for fault in line.faults]


def named(cases: tuple[tuple[Any, ...], ...]) -> list[Any]:
    return [pytest.param(*values, id=name) for name, *values in cases]


def test_no_case_is_listed_twice() -> None:
    names = [case[0] for case in (*LINES, *RECORDS)]
    assert len(names) == len(set(names)) >= 70


class TestFaultyLines:
    @pytest.mark.parametrize(("line", "message"), named(LINES))
    def test_a_line_that_is_not_a_record(self, tmp_path: Path, line: bytes, message: str) -> None:
        self.check(tmp_path, line, message)

    @pytest.mark.parametrize(("fields", "message"), named(RECORDS))
    def test_a_record_that_cannot_be_trained(
        self, tmp_path: Path, fields: dict[str, Any], message: str
    ) -> None:
        self.check(tmp_path, json.dumps(fields).encode(), message)

    def check(self, folder: Path, line: bytes, message: str) -> None:
        """The fault names its line, and the records around it are still trained."""
        path = folder / "train.jsonl"
        path.write_bytes(GOOD + line + b"\n" + GOOD)
        assert [str(fault) for fault in faults(path)] == [f"{path} line 2: {message}."]
        assert [record.line for record in load_split(folder, "train").records] == [1, 3]
