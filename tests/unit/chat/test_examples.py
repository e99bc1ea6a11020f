"""Stepping through the prompts of a test set."""

from __future__ import annotations

import json
from pathlib import Path

from mlxft.chat.examples import ExamplePrompts
from mlxft.data.columns import AS_NAMED


def prompts_of(folder: Path, *steps: int) -> list[str | None]:
    """The prompt after each step."""
    prompts = ExamplePrompts(folder, AS_NAMED)
    return [each.prompt if (each := prompts.step(by)) else None for by in steps]


def write(folder: Path, *prompts: str) -> None:
    records = ({"prompt": each, "completion": "x"} for each in prompts)
    (folder / "test.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))


class TestExamplePrompts:
    def test_the_first_follows_the_last(self, tmp_path: Path) -> None:
        write(tmp_path, "a", "b")
        assert prompts_of(tmp_path, 1, 1, 1, 1) == ["a", "b", "a", "b"]

    def test_steps_go_backwards_too(self, tmp_path: Path) -> None:
        write(tmp_path, "a", "b", "c")
        assert prompts_of(tmp_path, 1, 1, -1, -1, 1) == ["a", "b", "a", "b", "c"]

    def test_an_empty_folder_has_none(self, tmp_path: Path) -> None:
        assert prompts_of(tmp_path, 1, -1, 1) == [None, None, None]

    def test_a_first_step_backwards_gives_the_first(self, tmp_path: Path) -> None:
        write(tmp_path, "a", "b")
        assert prompts_of(tmp_path, -1, 1) == ["a", "b"]
