"""The workflows run nothing but make targets, so each of their commands runs here too."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", ["ci.yml", "release.yml"])
def test_every_command_is_a_make_target(name: str) -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text())
    commands = [
        step["run"].split()
        for job in workflow["jobs"].values()
        for step in job["steps"]
        if "run" in step
    ]
    assert commands
    assert {words[0] for words in commands} == {"make"}
    assert {words[1] for words in commands} <= {*TARGETS}
