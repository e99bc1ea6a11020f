"""Files that hold no records that can be trained: each has one fault, with its remedy."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from mlxft.data.faults import Fault
from mlxft.data.validation import scan

GOOD = b'{"prompt": "a", "completion": "b"}\n'

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
        "an array that never closes in place of lines",
        "train.jsonl",
        b'[\n{"text": "a"},\n{"text": "b"}\n',
        ": the JSON array is broken after record 2 (it is never closed); "
        "fix it, or write one record per line.",
    ),
    (
        "an object that never closes in place of lines",
        "train.jsonl",
        b'{\n"text": "a",\n',
        ": invalid JSON in record 1 (expecting property name enclosed in double quotes); "
        "fix it, or write one record per line.",
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
        ": the file holds several splits (test, train); write each of them to a file of its own.",
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
        "or choose its fields on the Data screen, or as columns in recipe.yaml.",
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
        ": the file can't be unpacked (not a gzipped file (b'he')); download it again.",
    ),
    (
        "gzip cut short",
        "train.jsonl.gz",
        gzip.compress(GOOD * 1000)[:-12],
        ": the file can't be unpacked (compressed file ended before the end-of-stream marker was "
        "reached); download it again.",
    ),
    (
        "not zstd inside",
        "train.jsonl.zst",
        b"hello",
        ": the file can't be unpacked (zstd decompress failed: unknown frame descriptor); "
        "download it again.",
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


def test_no_case_is_listed_twice() -> None:
    names = [case[0] for case in FILES]
    assert len(names) == len(set(names)) >= 30


class TestFaultyFiles:
    @pytest.mark.parametrize(("name", "content", "message"), named(FILES))
    def test_it_has_exactly_one_fault(
        self, tmp_path: Path, name: str, content: bytes, message: str
    ) -> None:
        path = tmp_path / name
        path.write_bytes(content)
        assert [str(fault) for fault in faults(path)] == [f"{path}{message}"]
