"""Files as they go wrong: each kind with the sentence that tells its place and its remedy."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from mlxft.data.dataset import load_split
from mlxft.data.validation import check

GOOD = b'{"prompt": "a", "completion": "b"}\n'
ASKED = {"role": "user", "content": "a"}
ANSWERED = {"role": "assistant", "content": "b"}

LINES: tuple[tuple[str, bytes, str], ...] = (
    (
        "a missing comma",
        b'{"prompt": "a" "completion": "b"}',
        "the JSON breaks at column 16 (expecting ',' delimiter); correct the line or remove it",
    ),
    (
        "a line cut short",
        b'{"prompt": "a", "completion": "b',
        "the JSON breaks at column 31 (unterminated string); correct the line or remove it",
    ),
    (
        "an object not closed",
        b'{"prompt": "a", "completion": "b"',
        "the JSON breaks at column 34 (expecting ',' delimiter); correct the line or remove it",
    ),
    (
        "a comma too many",
        b'{"text": "a",}',
        "the JSON breaks at column 14 (expecting property name enclosed in double quotes); "
        "correct the line or remove it",
    ),
    (
        "a comma after the record",
        b'{"text": "a"},',
        "the JSON breaks at column 14 (extra data); correct the line or remove it",
    ),
    (
        "two records in a line",
        b'{"text": "a"}{"text": "b"}',
        "the JSON breaks at column 14 (extra data); correct the line or remove it",
    ),
    (
        "single quotes",
        b"{'text': 'a'}",
        "the JSON breaks at column 2 (expecting property name enclosed in double quotes); "
        "correct the line or remove it",
    ),
    (
        "names without quotes",
        b'{text: "a"}',
        "the JSON breaks at column 2 (expecting property name enclosed in double quotes); "
        "correct the line or remove it",
    ),
    (
        "a comment",
        b"// not yet",
        "the JSON breaks at column 1 (expecting value); correct the line or remove it",
    ),
    (
        "Python's None",
        b'{"text": None}',
        "the JSON breaks at column 10 (expecting value); correct the line or remove it",
    ),
    (
        "a tab within a text",
        b'{"text": "a\tb"}',
        "the JSON breaks at column 12 (invalid control character); correct the line or remove it",
    ),
    (
        "a null byte within a text",
        b'{"text": "a\0b"}',
        "the JSON breaks at column 12 (invalid control character); correct the line or remove it",
    ),
    (
        "a broken escape",
        b'{"text": "a\\q"}',
        "the JSON breaks at column 12 (invalid \\escape); correct the line or remove it",
    ),
    (
        "NaN",
        b'{"text": NaN}',
        "the JSON holds NaN, which is no value of JSON; correct the line or remove it",
    ),
    (
        "a number out of range",
        b'{"text": 1e999}',
        "the JSON holds a number out of range; correct the line or remove it",
    ),
    (
        "half a surrogate pair",
        b'{"text": "\\ud800"}',
        "the JSON holds half a surrogate pair; correct the line or remove it",
    ),
    (
        "nested too deep",
        b"[" * 100_000,
        "the JSON is nested too deep; correct the line or remove it",
    ),
    ("Latin-1", b'{"text": "caf\xe9"}', "the line is not UTF-8 text; save the file as UTF-8"),
    (
        "a byte order mark within the file",
        b'\xef\xbb\xbf{"text": "a"}',
        "the line begins with a byte order mark; remove it",
    ),
    ("a blank line", b"", "the line is blank; remove it"),
    ("a line of blanks", b" \t", "the line is blank; remove it"),
    (
        "a list",
        b'["a", "b"]',
        "this is a JSON list, not a record; "
        'write it as an object like {"prompt": "…", "completion": "…"}',
    ),
    (
        "a text alone",
        b'"a"',
        "this is a JSON text, not a record; "
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
"""Second lines of a file that are no records."""

RECORDS: tuple[tuple[str, dict[str, Any], str], ...] = (
    (
        "no keys",
        {},
        "the record has no keys; a record needs one of these: prompt and completion; messages; "
        "text; or choose its fields with c on the Data screen, or by columns in recipe.yaml",
    ),
    (
        "unknown keys",
        {"title": "a", "body": "b"},
        "the record has title, body; a record needs one of these: prompt and completion; "
        "messages; text; or choose its fields with c on the Data screen, or by columns in "
        "recipe.yaml",
    ),
    ("no completion", {"prompt": "a"}, "the record has no completion; add it or remove the line"),
    ("no prompt", {"completion": "a"}, "the record has no prompt; add it or remove the line"),
    (
        "an empty prompt",
        {"prompt": "", "completion": "b"},
        "the prompt is empty; fill it in or remove the line",
    ),
    (
        "a completion of blanks",
        {"prompt": "a", "completion": " \n"},
        "the completion is empty; fill it in or remove the line",
    ),
    (
        "a prompt that can't be seen",
        {"prompt": "\u200b", "completion": "b"},
        "the prompt is empty; fill it in or remove the line",
    ),
    (
        "null for the completion",
        {"prompt": "a", "completion": None},
        "the completion is null, not text; write a text in its place",
    ),
    (
        "a number for the completion",
        {"prompt": "a", "completion": 3},
        "the completion is a number, not text; put it in double quotes",
    ),
    (
        "an object for the completion",
        {"prompt": "a", "completion": {"x": 1}},
        "the completion is an object, not text; write a text in its place",
    ),
    ("an empty text", {"text": ""}, "the text is empty; fill it in or remove the line"),
    (
        "a list for the text",
        {"text": ["a"]},
        "the text is a JSON list, not text; write a text in its place",
    ),
    (
        "tools that are no list",
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
        "a text for the messages",
        {"messages": "hello"},
        "messages is a JSON text, not a list; "
        'write it as a list like [{"role": "user", "content": "…"}, …]',
    ),
    (
        "a text for a message",
        {"messages": ["a"]},
        "message 1 is a JSON text, not a message; "
        'write it as an object like {"role": "user", "content": "…"}',
    ),
    (
        "an unknown role",
        {"messages": [ASKED, {"role": "narrator", "content": "b"}]},
        "message 2 has the role narrator; use one of system, user, assistant, tool, or choose who "
        "that is with c on the Data screen, or by columns in recipe.yaml",
    ),
    (
        "a role in capitals",
        {"messages": [{"role": "User", "content": "a"}, ANSWERED]},
        "message 1 has the role User; use one of system, user, assistant, tool, or choose who "
        "that is with c on the Data screen, or by columns in recipe.yaml",
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
        "the content of message 2 is null, not text; write a text in its place",
    ),
    (
        "an empty question",
        {"messages": [{"role": "user", "content": ""}, ANSWERED]},
        "the content of message 1 is empty; fill it in or remove the line",
    ),
    (
        "a list for the content",
        {"messages": [{"role": "user", "content": ["a"]}, ANSWERED]},
        "the content of message 1 is a JSON list, not text; write a text in its place",
    ),
    (
        "a picture",
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, ANSWERED]},
        "message 1 has a part of the type image_url, and only text is trained; "
        "leave that part out or remove the line",
    ),
    (
        "a part without text",
        {"messages": [{"role": "user", "content": [{"type": "text"}]}, ANSWERED]},
        "a part of message 1 has no text; leave that part out",
    ),
    (
        "no answer at the end",
        {"messages": [ASKED, ANSWERED, ASKED]},
        "the conversation ends with the user, so there is no answer to learn; "
        "end it with an assistant message or remove the line",
    ),
    (
        "instructions alone",
        {"messages": [{"role": "system", "content": "s"}]},
        "the conversation ends with the system, so there is no answer to learn; "
        "end it with an assistant message or remove the line",
    ),
    (
        "instructions in the middle",
        {"messages": [ASKED, {"role": "system", "content": "s"}, ANSWERED]},
        "a system message is not the first; move it to the beginning",
    ),
    (
        "an answer to nothing",
        {"messages": [ANSWERED]},
        "the assistant speaks before the user; begin with the user's message",
    ),
    (
        "a result that nobody called for",
        {"messages": [ASKED, {"role": "tool", "content": "1"}, ANSWERED]},
        "a tool message follows no tool_calls; "
        "put it after the assistant's message that calls the tool",
    ),
    (
        "calls that are no list",
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
        "the output is null, not text; write a text in its place",
    ),
    (
        "ShareGPT without turns",
        {"conversations": []},
        "conversations is empty; fill it in or remove the line",
    ),
    (
        "ShareGPT from nobody",
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
        "the conversation ends with the user, so there is no answer to learn; "
        "end it with an assistant message or remove the line",
    ),
    (
        "ShareGPT that calls no function",
        {
            "conversations": [
                {"from": "human", "value": "a"},
                {"from": "function_call", "value": "f(1)"},
            ]
        },
        "message 2 calls no function by its name; "
        'write a call like {"type": "function", "function": {"name": "…", "arguments": {…}}}',
    ),
    (
        "ChatML without an answer",
        {"text": "<|im_start|>user\na<|im_end|>\n"},
        "the conversation ends with the user, so there is no answer to learn; "
        "end it with an assistant message or remove the line",
    ),
    (
        "ChatML with an empty answer",
        {"text": "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"},
        "the content of message 2 is empty; fill it in or remove the line",
    ),
    (
        "a question without an answer's text",
        {"question": "a", "answer": ["b"]},
        "the answer is a JSON list, not text; write a text in its place",
    ),
    (
        "a preference with an empty chosen side",
        {"prompt": "a", "chosen": "", "rejected": "b"},
        "the chosen is empty; fill it in or remove the line",
    ),
    (
        "a preference whose chosen side is no message",
        {"prompt": [ASKED], "chosen": [], "rejected": [ANSWERED]},
        "chosen is empty; fill it in or remove the line",
    ),
    (
        "messages of other keys",
        {"messages": [{"speaker": "user", "utterance": "a"}, ANSWERED]},
        "message 1 has no role; use one of system, user, assistant, tool, "
        "or choose the key of the role with c on the Data screen, or by columns in recipe.yaml",
    ),
    (
        "messages whose contents have another key",
        {"messages": [{"role": "user", "utterance": "a"}, ANSWERED]},
        "message 1 has no content; add it or remove the line, or choose its key with c on the "
        "Data screen, or by columns in recipe.yaml",
    ),
    (
        "a preference of two lists without an answer",
        {"chosen": [ASKED], "rejected": [ASKED]},
        "the conversation ends with the user, so there is no answer to learn; "
        "end it with an assistant message or remove the line",
    ),
)
"""Records that can't be trained."""

FILES: tuple[tuple[str, str, bytes, str], ...] = (
    (
        "an empty file",
        "train.jsonl",
        b"",
        ": the file is empty; write one JSON record a line into it.",
    ),
    (
        "a byte order mark",
        "train.jsonl",
        b"\xef\xbb\xbf" + GOOD,
        " line 1: the file begins with a byte order mark; save it as UTF-8 without one.",
    ),
    (
        "an array in place of lines",
        "train.jsonl",
        b'[{"text": "a"}]',
        ": the file holds JSON over several lines or in an array; "
        "write each record as one JSON object on a line of its own, or name the file .json.",
    ),
    (
        "an array over several lines",
        "train.jsonl",
        b'[\n{"text": "a"}\n]',
        ": the file holds JSON over several lines or in an array; "
        "write each record as one JSON object on a line of its own, or name the file .json.",
    ),
    (
        "a record over several lines",
        "train.jsonl",
        b'{\n"text": "a"\n}',
        ": the file holds JSON over several lines or in an array; "
        "write each record as one JSON object on a line of its own, or name the file .json.",
    ),
    (
        "UTF-16",
        "train.jsonl",
        GOOD.decode().encode("utf-16"),
        ": the file is UTF-16 or no text; save it as UTF-8.",
    ),
    (
        "UTF-16 without a mark",
        "train.jsonl",
        GOOD.decode().encode("utf-16-le"),
        ": the file is UTF-16 or no text; save it as UTF-8.",
    ),
    (
        "UTF-32",
        "train.jsonl",
        GOOD.decode().encode("utf-32"),
        ": the file is UTF-16 or no text; save it as UTF-8.",
    ),
    (
        "gzip without its ending",
        "train.jsonl",
        gzip.compress(GOOD),
        ": the file is packed by gzip; add .gz to its name.",
    ),
    (
        "Parquet without its ending",
        "train.jsonl",
        b"PAR1\x15\x04",
        ": this is a Parquet file; give it the ending .parquet.",
    ),
    ("a ZIP archive", "train.jsonl", b"PK\x03\x04\x14", ": this is a ZIP archive; unpack it."),
    (
        "a pointer of Git LFS",
        "train.jsonl",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
        ": Git LFS left a pointer in place of the file; run git lfs pull.",
    ),
    (
        "a pointer of Git LFS for Parquet",
        "train.parquet",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
        ": Git LFS left a pointer in place of the file; run git lfs pull.",
    ),
    (
        "a web page",
        "train.jsonl",
        b"<!DOCTYPE html>\n<html></html>\n",
        ": this is a web page; download the file itself.",
    ),
    (
        "an array not closed",
        "train.json",
        b'[{"text": "a"}',
        ": the JSON array breaks after record 1 (it isn't closed); "
        "correct it, or write a record a line.",
    ),
    (
        "an array with a comma missing",
        "train.json",
        b'[{"text": "a"} {"text": "b"}]',
        ": the JSON array breaks after record 1 (a comma is missing); "
        "correct it, or write a record a line.",
    ),
    (
        "an array with a broken record",
        "train.json",
        b'[{"text": "a"}, {"text" "b"}]',
        ": the JSON breaks in record 2 (expecting ':' delimiter); "
        "correct it, or write a record a line.",
    ),
    (
        "two sets in an object",
        "train.json",
        b'{"train": [{"text": "a"}], "test": [{"text": "b"}]}',
        ": more than the array of records is in the file; correct it, or write a record a line.",
    ),
    ("an empty array", "train.json", b"[]", ": the file holds no record; put records into it."),
    (
        "an array with a number in it",
        "train.json",
        b'[{"text": "a"}, 3]',
        " record 2: this is a number, not a record; "
        'write it as an object like {"prompt": "…", "completion": "…"}.',
    ),
    (
        "a number for a file",
        "train.json",
        b"3",
        " record 1: this is a number, not a record; "
        'write it as an object like {"prompt": "…", "completion": "…"}.',
    ),
    (
        "a header alone",
        "train.csv",
        b"prompt,completion\n",
        ": the file holds no record; put records into it.",
    ),
    (
        "no header",
        "train.csv",
        b"Turn it on,ok\nTurn it off,ok\n",
        " record 1: the record has Turn it on, ok; "
        "a record needs one of these: prompt and completion; messages; text; "
        "or choose its fields with c on the Data screen, or by columns in recipe.yaml.",
    ),
    (
        "a cell too many",
        "train.csv",
        b"prompt,completion\na,b,c\n",
        " record 1: the row has 3 cells under 2 columns; "
        "put cells that hold the separator into double quotes.",
    ),
    (
        "a cell too few",
        "train.csv",
        b"prompt,completion\na\n",
        " record 1: the row has 1 cell under 2 columns; "
        "put cells that hold the separator into double quotes.",
    ),
    (
        "an empty cell",
        "train.csv",
        b"prompt,completion\na,\n",
        " record 1: the completion is empty; fill it in or remove the line.",
    ),
    (
        "quotes that never close",
        "train.csv",
        b'prompt,completion\na,"b\nc,d\n',
        " record 1: the row's quotes never close, so that 2 lines from there on are one cell; "
        "close them.",
    ),
    (
        "two columns of a name",
        "train.csv",
        b"prompt,prompt,completion\na,b,c\n",
        ": two columns are named prompt; rename one of them.",
    ),
    (
        "a CSV in Latin-1",
        "train.csv",
        b"prompt,completion\ncaf\xe9,b\n",
        " record 1: the row holds text that is not UTF-8; save the file as UTF-8.",
    ),
    (
        "a CSV in UTF-16",
        "train.csv",
        "prompt,completion\n".encode("utf-16"),
        ": the file is UTF-16 or no text; save it as UTF-8.",
    ),
    (
        "no gzip inside",
        "train.jsonl.gz",
        b"hello",
        ": the file can't be unpacked (not a gzipped file (b'he')); "
        "get it anew or make room on the disk.",
    ),
    (
        "gzip cut short",
        "train.jsonl.gz",
        gzip.compress(GOOD * 1000)[:-12],
        ": the file can't be unpacked (compressed file ended before the end-of-stream marker was "
        "reached); get it anew or make room on the disk.",
    ),
    (
        "no zstd inside",
        "train.jsonl.zst",
        b"hello",
        ": the file can't be unpacked (zstd decompress failed: unknown frame descriptor); "
        "get it anew or make room on the disk.",
    ),
    (
        "no Parquet inside",
        "train.parquet",
        b"hello",
        ": this is no whole Parquet file (Parquet file size is 5 bytes, smaller than the minimum "
        "file footer (8 bytes)); get it anew.",
    ),
    (
        "no Arrow inside",
        "train.arrow",
        b"hello",
        ": this is no whole Arrow file (Expected to read 1819043176 metadata bytes, but only read "
        "1); get it anew.",
    ),
)
"""Whole files, under their names."""


def named(cases: tuple[tuple[Any, ...], ...]) -> list[Any]:
    return [pytest.param(*values, id=name) for name, *values in cases]


def test_there_are_many_kinds() -> None:
    """A kind that is listed twice would be one."""
    names = [case[0] for case in (*LINES, *RECORDS, *FILES)]
    assert len(names) == len(set(names)) >= 100


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXFT_CACHE", str(tmp_path / "cache"))


class TestFaultyLines:
    @pytest.mark.parametrize(("line", "told"), named(LINES))
    def test_a_line_that_is_no_record(self, tmp_path: Path, line: bytes, told: str) -> None:
        self.check(tmp_path, line, told)

    @pytest.mark.parametrize(("fields", "told"), named(RECORDS))
    def test_a_record_that_cant_be_trained(
        self, tmp_path: Path, fields: dict[str, Any], told: str
    ) -> None:
        self.check(tmp_path, json.dumps(fields).encode(), told)

    def check(self, folder: Path, line: bytes, told: str) -> None:
        """It is named with its line, and the records around it are trained all the same."""
        path = folder / "train.jsonl"
        path.write_bytes(GOOD + line + b"\n" + GOOD)
        assert [str(fault) for fault in check(path)] == [f"{path} line 2: {told}."]
        assert [record.line for record in load_split(folder, "train").records] == [1, 3]


class TestFaultyFiles:
    @pytest.mark.parametrize(("name", "content", "told"), named(FILES))
    def test_what_is_wrong_is_told_once(
        self, tmp_path: Path, name: str, content: bytes, told: str
    ) -> None:
        path = tmp_path / name
        path.write_bytes(content)
        assert [str(fault) for fault in check(path)] == [f"{path}{told}"]
