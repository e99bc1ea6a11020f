"""A walk through a test set."""

from __future__ import annotations

import json
from pathlib import Path

from mlxft.chat.examples import ExamplePrompts
from mlxft.data.columns import AS_NAMED


def walked(folder: Path, *steps: int) -> list[str | None]:
    """The prompts met on the way."""
    prompts = ExamplePrompts(folder, AS_NAMED)
    return [each.prompt if (each := prompts.step(by)) else None for by in steps]


def write(folder: Path, *prompts: str) -> None:
    records = ({"prompt": each, "completion": "x"} for each in prompts)
    (folder / "test.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))


class TestExamplePrompts:
    def test_after_the_last_comes_the_first(self, tmp_path: Path) -> None:
        write(tmp_path, "a", "b")
        assert walked(tmp_path, 1, 1, 1, 1) == ["a", "b", "a", "b"]

    def test_backwards_comes_what_was_seen(self, tmp_path: Path) -> None:
        write(tmp_path, "a", "b", "c")
        assert walked(tmp_path, 1, 1, -1, -1, 1) == ["a", "b", "a", "b", "c"]

    def test_an_empty_folder_has_none(self, tmp_path: Path) -> None:
        assert walked(tmp_path, 1, -1, 1) == [None, None, None]

    def test_it_begins_with_the_first_also_backwards(self, tmp_path: Path) -> None:
        write(tmp_path, "a", "b")
        assert walked(tmp_path, -1, 1) == ["a", "b"]
