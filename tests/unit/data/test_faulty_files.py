"""Faulty files and records, each with its exact error message."""

from __future__ import annotations

import gzip
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
        "text; or choose its fields with c on the Data screen, or as columns in recipe.yaml",
    ),
    (
        "unknown keys",
        {"title": "a", "body": "b"},
        "the record has title, body; a record needs one of these: prompt and completion; "
        "messages; text; or choose its fields with c on the Data screen, or as columns in "
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
        "this one with c on the Data screen, or as columns in recipe.yaml",
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
        "or choose the key of the role with c on the Data screen, or as columns in recipe.yaml",
    ),
    (
        "message contents with another key",
        {"messages": [{"role": "user", "utterance": "a"}, ANSWERED]},
        "message 1 has no content; add it or remove the line, or choose its key with c on the "
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

FILES: tuple[tuple[str, str, bytes, str], ...] = (
    (
        "an empty file",
        "train.jsonl",
        b"",
        ": the file is empty; write one JSON record per line into it.",
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
        ": the file holds multi-line JSON or an array; "
        "write one JSON object per line, or rename the file to end in .json.",
    ),
    (
        "an array over several lines",
        "train.jsonl",
        b'[\n{"text": "a"}\n]',
        ": the file holds multi-line JSON or an array; "
        "write one JSON object per line, or rename the file to end in .json.",
    ),
    (
        "a record over several lines",
        "train.jsonl",
        b'{\n"text": "a"\n}',
        ": the file holds multi-line JSON or an array; "
        "write one JSON object per line, or rename the file to end in .json.",
    ),
    (
        "UTF-16",
        "train.jsonl",
        GOOD.decode().encode("utf-16"),
        ": the file is UTF-16 or not text; save it as UTF-8.",
    ),
    (
        "UTF-16 without a mark",
        "train.jsonl",
        GOOD.decode().encode("utf-16-le"),
        ": the file is UTF-16 or not text; save it as UTF-8.",
    ),
    (
        "UTF-32",
        "train.jsonl",
        GOOD.decode().encode("utf-32"),
        ": the file is UTF-16 or not text; save it as UTF-8.",
    ),
    (
        "gzip without its ending",
        "train.jsonl",
        gzip.compress(GOOD),
        ": the file is gzip-compressed; add .gz to its name.",
    ),
    (
        "Parquet without its ending",
        "train.jsonl",
        b"PAR1\x15\x04",
        ": this is a Parquet file; rename it to end in .parquet.",
    ),
    ("a ZIP archive", "train.jsonl", b"PK\x03\x04\x14", ": this is a ZIP archive; unpack it."),
    (
        "a pointer of Git LFS",
        "train.jsonl",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
        ": this is a Git LFS pointer, not the file itself; run git lfs pull.",
    ),
    (
        "a pointer of Git LFS for Parquet",
        "train.parquet",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
        ": this is a Git LFS pointer, not the file itself; run git lfs pull.",
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
        ": the JSON array is broken after record 1 (it is never closed); "
        "fix it, or write one record per line.",
    ),
    (
        "an array with a comma missing",
        "train.json",
        b'[{"text": "a"} {"text": "b"}]',
        ": the JSON array is broken after record 1 (a comma is missing); "
        "fix it, or write one record per line.",
    ),
    (
        "an array with a broken record",
        "train.json",
        b'[{"text": "a"}, {"text" "b"}]',
        ": invalid JSON in record 2 (expecting ':' delimiter); "
        "fix it, or write one record per line.",
    ),
    (
        "two datasets in an object",
        "train.json",
        b'{"train": [{"text": "a"}], "test": [{"text": "b"}]}',
        ": the file holds several splits (test, train); fix it, or write one record per line.",
    ),
    (
        "plain text",
        "notes.txt",
        b"It was a long winter.\nNobody came.\n",
        ': this is a text file; write each passage as {"text": "…"} on a line.',
    ),
    ("an empty array", "train.json", b"[]", ": the file holds no records; put records into it."),
    (
        "an array with a number in it",
        "train.json",
        b'[{"text": "a"}, 3]',
        " record 2: this is a number, not a record; "
        'write it as an object like {"prompt": "…", "completion": "…"}.',
    ),
    (
        "a file that is a number",
        "train.json",
        b"3",
        " record 1: this is a number, not a record; "
        'write it as an object like {"prompt": "…", "completion": "…"}.',
    ),
    (
        "a header alone",
        "train.csv",
        b"prompt,completion\n",
        ": the file holds no records; put records into it.",
    ),
    (
        "no header",
        "train.csv",
        b"Turn it on,ok\nTurn it off,ok\n",
        " record 1: the record has Turn it on, ok; "
        "a record needs one of these: prompt and completion; messages; text; "
        "or choose its fields with c on the Data screen, or as columns in recipe.yaml.",
    ),
    (
        "a cell too many",
        "train.csv",
        b"prompt,completion\na,b,c\n",
        " record 1: the row has 3 cells under 2 columns; "
        "put cells that contain the separator in double quotes.",
    ),
    (
        "a cell too few",
        "train.csv",
        b"prompt,completion\na\n",
        " record 1: the row has 1 cell under 2 columns; "
        "put cells that contain the separator in double quotes.",
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
        " record 1: the row's quotes never close, so the 2 lines from here on are one cell; "
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
        ": the file is UTF-16 or not text; save it as UTF-8.",
    ),
    (
        "not gzip inside",
        "train.jsonl.gz",
        b"hello",
        ": the file can't be unpacked (not a gzipped file (b'he')); "
        "download it again or free disk space.",
    ),
    (
        "gzip cut short",
        "train.jsonl.gz",
        gzip.compress(GOOD * 1000)[:-12],
        ": the file can't be unpacked (compressed file ended before the end-of-stream marker was "
        "reached); download it again or free disk space.",
    ),
    (
        "not zstd inside",
        "train.jsonl.zst",
        b"hello",
        ": the file can't be unpacked (zstd decompress failed: unknown frame descriptor); "
        "download it again or free disk space.",
    ),
    (
        "not Parquet inside",
        "train.parquet",
        b"hello",
        ": this Parquet file is broken (Parquet file size is 5 bytes, smaller than the minimum "
        "file footer (8 bytes)); download it again.",
    ),
    (
        "not Arrow inside",
        "train.arrow",
        b"hello",
        ": this Arrow file is broken (Expected to read 1819043176 metadata bytes, but only read "
        "1); download it again.",
    ),
)
"""Whole files, by name."""


def faults(path: Path) -> list[Fault]:
    return [fault for line in scan(path) for fault in line.faults]


def named(cases: tuple[tuple[Any, ...], ...]) -> list[Any]:
    return [pytest.param(*values, id=name) for name, *values in cases]


def test_there_are_many_kinds() -> None:
    """No case is listed twice."""
    names = [case[0] for case in (*LINES, *RECORDS, *FILES)]
    assert len(names) == len(set(names)) >= 100


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXFT_CACHE", str(tmp_path / "cache"))


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


class TestFaultyFiles:
    @pytest.mark.parametrize(("name", "content", "message"), named(FILES))
    def test_it_has_exactly_one_fault(
        self, tmp_path: Path, name: str, content: bytes, message: str
    ) -> None:
        path = tmp_path / name
        path.write_bytes(content)
        assert [str(fault) for fault in faults(path)] == [f"{path}{message}"]
