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
CALLING = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
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
    @pytest.mark.parametrize(
        ("line", "kind", "told"),
        [
            (b'{"prompt": "a" "completion": "b"}', "bad JSON", "column 16"),
            (b'{"prompt": "a", "completion": "b"', "bad JSON", "breaks at column"),
            (b'{"prompt": "a\tb", "completion": "c"}', "bad JSON", "invalid control character"),
            (b"{'prompt': 'a'}", "bad JSON", "column 2"),
            (b'{"text": NaN}', "bad JSON", "NaN"),
            (b'{"text": 1e999}', "bad JSON", "out of range"),
            (b'{"text": "\\ud800"}', "bad JSON", "surrogate"),
            (b"[" * 100_000, "bad JSON", "nested too deep"),
            (b"\xff\xfe", "encoding", "not UTF-8"),
            (b'{"text": "\xe9"}', "encoding", "not UTF-8"),
            (b"", "blank line", "remove it"),
            (b"  \t", "blank line", "remove it"),
            (b'["a", "b"]', "not an object", "a JSON list"),
            (b'"a"', "not an object", "a JSON text"),
            (b"null", "not an object", "null"),
            (b"1.5", "not an object", "a number"),
            (b'\xef\xbb\xbf{"text": "a"}', "bad JSON", "correct the line"),
        ],
    )
    def test_a_line_that_is_no_record(
        self, tmp_path: Path, line: bytes, kind: str, told: str
    ) -> None:
        """The fault names the second line, and the good ones around it have none."""
        (fault,) = faults(tmp_path, GOOD + line + b"\n" + GOOD)
        assert (fault.line, fault.kind) == (2, kind)
        assert str(fault).startswith(f"{tmp_path}/train.jsonl line 2: ")
        assert told in str(fault)
        assert str(fault).endswith(".")

    @pytest.mark.parametrize(
        ("fields", "kind", "told"),
        [
            ({}, "unknown format", "no keys"),
            ({"title": "a", "body": "b"}, "unknown format", "title, body"),
            ({"prompt": "a"}, "unknown format", "no completion"),
            ({"completion": "a"}, "unknown format", "no prompt"),
            ({"prompt": "", "completion": "b"}, "empty field", "the prompt is empty"),
            ({"prompt": "a", "completion": " \n"}, "empty field", "the completion is empty"),
            ({"prompt": "a", "completion": None}, "wrong type", "the completion is null"),
            ({"prompt": 3, "completion": "b"}, "wrong type", "the prompt is a number"),
            ({"prompt": "a", "completion": "b", "tools": "f"}, "wrong type", "tools is not a list"),
            ({"text": ""}, "empty field", "the text is empty"),
            ({"text": ["a"]}, "wrong type", "the text is a JSON list"),
            ({"messages": []}, "empty field", "messages is empty"),
            ({"messages": None}, "wrong type", "messages is null"),
            ({"messages": "hello"}, "wrong type", "messages is a JSON text"),
            ({"messages": ["a"]}, "not an object", "message 1 is a JSON text"),
            (chat(("user", "a"), ("narrator", "b")), "roles", "message 2 has the role narrator"),
            ({"messages": [{"content": "a"}]}, "roles", "message 1 has no role"),
            ({"messages": [{"role": ["user"], "content": "a"}]}, "roles", "message 1"),
            (chat(("user", ""), ("assistant", "b")), "empty field", "content of message 1"),
            (
                chat(("user", "a"), ("assistant", None)),
                "wrong type",
                "content of message 2 is null",
            ),
            (chat(("user", ["a"]), ("assistant", "b")), "wrong type", "message 1 is a JSON list"),
            ({"messages": [ASKED, {"role": "assistant"}]}, "empty field", "has no content"),
            (chat(("user", "a"), ("assistant", "b"), ("user", "c")), "no answer", "ends with"),
            (chat(("assistant", "a"), ("user", "b"), ("assistant", "c")), "roles", "before the"),
            (chat(("user", "a"), ("system", "b"), ("assistant", "c")), "roles", "not the first"),
            ({"messages": [ASKED, RESULT, ANSWERED]}, "roles", "follows no tool_calls"),
        ],
    )
    def test_a_record_that_cant_be_trained(
        self, tmp_path: Path, fields: dict[str, object], kind: str, told: str
    ) -> None:
        (fault,) = faults(tmp_path, GOOD + json.dumps(fields).encode())
        assert (fault.line, fault.kind) == (2, kind)
        assert told in str(fault)

    def test_every_fault_of_a_record_is_told(self, tmp_path: Path) -> None:
        found = faults(tmp_path, b'{"prompt": "", "completion": 1}')
        assert [fault.kind for fault in found] == ["empty field", "wrong type"]

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

    @pytest.mark.parametrize(
        ("content", "kind"),
        [
            (b"", "empty file"),
            (json.dumps([{"text": "a"}]).encode(), "not JSON lines"),
            (json.dumps([{"text": "a"}] * 3, indent=1).encode(), "not JSON lines"),
            (json.dumps({"text": "a"}, indent=1).encode(), "not JSON lines"),
            (GOOD.decode().encode("utf-16"), "encoding"),
        ],
    )
    def test_a_file_of_another_kind_has_one_fault_for_all_its_lines(
        self, tmp_path: Path, content: bytes, kind: str
    ) -> None:
        (fault,) = faults(tmp_path, content)
        assert (fault.line, fault.kind) == (None, kind)
        assert str(fault).startswith(f"{tmp_path}/train.jsonl: ")

    def test_a_missing_file_and_a_folder_in_its_place_are_faults(self, tmp_path: Path) -> None:
        (missing,) = check(tmp_path / "train.jsonl")
        (folder,) = check(tmp_path)
        assert missing.kind == "missing file"
        assert folder.kind == "unreadable file"
        assert "is a directory" in str(folder)
