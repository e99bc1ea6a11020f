"""A Mac doesn't sleep while it trains, and its GPU gets the work that the recipe says."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from mlxft.engine.machine import RELAXED, SHORT_WORK, gpu_environment, keep_awake
from support.project import eventually


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with the arguments that a fake caffeinate was called with."""
    arguments = tmp_path / "arguments"
    tool = tmp_path / "caffeinate"
    tool.write_text(f'#!/bin/sh\necho "$@" > {arguments}\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path) + os.pathsep + os.environ["PATH"])
    return arguments


class TestKeepAwake:
    def test_on_a_mac_sleep_is_prevented_until_this_process_ends(
        self, called: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "platform", "darwin")
        assert keep_awake() == "caffeinate"
        eventually(lambda: called.is_file() and called.read_text())
        assert called.read_text().split() == ["-i", "-s", "-w", str(os.getpid())]

    def test_elsewhere_nothing_is_started(
        self, called: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "platform", "linux")
        assert keep_awake() is None

    def test_a_mac_without_the_tool_still_trains(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "darwin")
        monkeypatch.setenv("PATH", "")
        assert keep_awake() is None


class TestGpuWork:
    @pytest.fixture(autouse=True)
    def _a_mac_without_variables(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "darwin")
        for name in (*SHORT_WORK, *RELAXED):
            monkeypatch.delenv(name, raising=False)

    def test_only_what_the_recipe_says_is_set(self) -> None:
        assert gpu_environment("normal") == {}
        assert gpu_environment("short") == SHORT_WORK
        relaxed = {**SHORT_WORK, "AGX_RELAX_CDM_CTXSTORE_TIMEOUT": "1"}
        assert gpu_environment("relaxed") == relaxed

    def test_the_users_own_variables_are_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AGX_RELAX_CDM_CTXSTORE_TIMEOUT", "0")
        assert "AGX_RELAX_CDM_CTXSTORE_TIMEOUT" not in gpu_environment("relaxed")

    def test_other_systems_have_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "linux")
        assert gpu_environment("relaxed") == {}
