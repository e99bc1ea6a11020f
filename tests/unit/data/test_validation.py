"""Faults of a file: found, placed and told with their remedy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlxft.data.validation import Fault, check

GOOD = b'{"prompt": "a", "completion": "b"}\n'


def faults(folder: Path, content: bytes) -> list[Fault]:
    path = folder / "train.jsonl"
    path.write_bytes(content)
    return list(check(path))


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
    def test_every_fault_of_a_record_is_told(self, tmp_path: Path) -> None:
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
    def test_a_key_that_is_there_twice_is_one(self, tmp_path: Path, line: bytes, key: str) -> None:
        (fault,) = faults(tmp_path, GOOD + line)
        assert (fault.kind, fault.line) == ("repeated key", 2)
        assert f"line 2: the key {key} is there twice; keep the one that is meant." in str(fault)

    def test_what_only_looks_like_one_is_none(self, tmp_path: Path) -> None:
        told = {"prompt": '"prompt": "a"', "completion": json.dumps({"prompt": 'say "x":'})}
        assert faults(tmp_path, json.dumps(told).encode()) == []

    def test_a_fault_never_carries_a_control_character(self, tmp_path: Path) -> None:
        (fault,) = faults(tmp_path, json.dumps({"\x1b[31m": "a"}).encode())
        assert "␛[31m" in str(fault)

    def test_a_fault_stays_a_sentence_whatever_the_record_holds(self, tmp_path: Path) -> None:
        found = faults(
            tmp_path,
            b"\n".join(
                json.dumps(fields).encode()
                for fields in ({"k" * 9_999: 1}, {"messages": [{"role": "r" * 9_999}]})
            ),
        )
        assert [len(str(fault)) < 300 for fault in found] == [True, True]


class TestFiles:
    def test_a_byte_order_mark_is_a_fault_and_the_record_is_still_read(
        self, tmp_path: Path
    ) -> None:
        (fault,) = faults(tmp_path, b"\xef\xbb\xbf" + GOOD)
        assert (fault.line, fault.kind) == (1, "byte order mark")

    def test_a_missing_file_and_a_folder_in_its_place_are_faults(self, tmp_path: Path) -> None:
        (missing,) = check(tmp_path / "train.jsonl")
        (folder,) = check(tmp_path)
        assert missing.kind == "missing file"
        assert folder.kind == "unreadable file"
        assert "no file in this folder holds records" in str(folder)
