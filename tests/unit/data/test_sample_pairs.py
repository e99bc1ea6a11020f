"""The sample pairs of the demo."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

from mlxft.storage.paths import sample_data

PAIRS = sample_data() / "preferences"


def read(split: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (PAIRS / f"{split}.jsonl").read_text().splitlines()]


def test_the_script_writes_the_files_that_are_shipped(tmp_path: Path) -> None:
    script = PAIRS.parent / "make_preferences.py"
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True)
    for split in ("train", "valid", "test"):
        assert (tmp_path / f"{split}.jsonl").read_bytes() == (PAIRS / f"{split}.jsonl").read_bytes()


def test_only_the_prompt_says_which_answer_is_chosen() -> None:
    for split in ("train", "valid", "test"):
        chosen = Counter(each["chosen"] for each in read(split))
        assert chosen == Counter(each["rejected"] for each in read(split))


def test_no_prompt_is_in_two_splits() -> None:
    prompts = [{each["prompt"] for each in read(split)} for split in ("train", "valid", "test")]
    assert not (prompts[0] & prompts[1]) | (prompts[0] & prompts[2]) | (prompts[1] & prompts[2])
