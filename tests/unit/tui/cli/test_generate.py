"""Files of prompts."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from mlxft_tui.cli.generate import read_prompts


@pytest.mark.parametrize("piped", [False, True])
def test_the_mark_of_windows_editors_is_no_part_of_the_first_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piped: bool
) -> None:
    text = '\ufeff{"prompt": "one"}\r\n{"prompt": "two"}\r\n'
    file = tmp_path / "prompts.jsonl"
    file.write_text(text, encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    found = read_prompts("-" if piped else str(file), None)
    assert [messages[-1].content for messages in found] == ["one", "two"]
