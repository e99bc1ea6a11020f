"""Validation finds the faults of a file, with line and fix."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlxft.data.faults import Fault
from mlxft.data.validation import scan

GOOD = b'{"prompt": "a", "completion": "b"}\n'


def faults(folder: Path, content: bytes) -> list[Fault]:
    path = folder / "train.jsonl"
    path.write_bytes(content)
    return faults_of(path)


def faults_of(path: Path) -> list[Fault]:
    return [fault for line in scan(path) for fault in line.faults]


def chat(*turns: tuple[str, object]) -> dict[str, object]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


ASKED = {"role": "user", "content": "a"}
ANSWERED = {"role": "assistant", "content": "b"}
CALLING = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f"}}]}
RESULT = {"role": "tool", "content": ""}


class TestGoodFiles:
    @pytest.mark.parametrize(
        "content",
        [
            GOOD,
            GOOD + GOOD.rstrip(b"\n"),
            GOOD.replace(b"\n", b"\r\n") * 2,
            b'{"text": "a"}\n' + GOOD,
            json.dumps(chat(("system", ""), ("user", "a"), ("assistant", "b"))).encode(),
            json.dumps({"messages": [ASKED, CALLING, RESULT, RESULT, ANSWERED]}).encode(),
            json.dumps({"messages": [ASKED, CALLING], "tools": [{}]}).encode(),
            json.dumps({"prompt": "a", "completion": "b", "source": 3, "tools": None}).encode(),
        ],
    )
    def test_a_good_file_has_no_fault(self, tmp_path: Path, content: bytes) -> None:
        assert faults(tmp_path, content) == []


class TestLines:
    def test_all_faults_of_a_record_are_reported(self, tmp_path: Path) -> None:
        found = faults(tmp_path, b'{"prompt": "", "completion": 1}')
        assert [fault.kind for fault in found] == ["empty field", "wrong type"]

    @pytest.mark.parametrize(
        ("line", "key"),
        [
            (b'{"prompt": "a", "completion": "b", "prompt": "c"}', "prompt"),
            (b'{"prompt" : "a", "completion" : "b", "prompt" : "c"}', "prompt"),
            (b'{"messages": [{"role": "user", "role": "assistant", "content": "b"}]}', "role"),
        ],
    )
    def test_a_repeated_key(self, tmp_path: Path, line: bytes, key: str) -> None:
        (fault,) = faults(tmp_path, GOOD + line)
        assert (fault.kind, fault.line) == ("repeated key", 2)
        assert f"line 2: the key {key} appears twice; keep one of them." in str(fault)

    def test_text_that_looks_like_a_repeated_key_is_not_one(self, tmp_path: Path) -> None:
        record = {"prompt": '"prompt": "a"', "completion": json.dumps({"prompt": 'say "x":'})}
        assert faults(tmp_path, json.dumps(record).encode()) == []

    def test_control_characters_are_shown_as_symbols(self, tmp_path: Path) -> None:
        (fault,) = faults(tmp_path, json.dumps({"\x1b[31m": "a"}).encode())
        assert "␛[31m" in str(fault)

    def test_messages_stay_short_for_any_record(self, tmp_path: Path) -> None:
        found = faults(
            tmp_path,
            b"\n".join(
                json.dumps(fields).encode()
                for fields in ({"k" * 9_999: 1}, {"messages": [{"role": "r" * 9_999}]})
            ),
        )
        assert [len(str(fault)) < 300 for fault in found] == [True, True]


class TestFiles:
    def test_a_byte_order_mark_is_a_fault(self, tmp_path: Path) -> None:
        (fault,) = faults(tmp_path, b"\xef\xbb\xbf" + GOOD)
        assert (fault.line, fault.kind) == (1, "byte order mark")

    def test_a_missing_file_and_an_empty_folder(self, tmp_path: Path) -> None:
        (missing,) = faults_of(tmp_path / "train.jsonl")
        (folder,) = faults_of(tmp_path)
        assert missing.kind == "missing file"
        assert folder.kind == "unreadable file"
        assert "no file in this folder holds records" in str(folder)
