"""Machines made of captures, in the place of this one."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.idle import waits_for_messages as waits_for_messages
from support.macs import Mac


@pytest.fixture
def mac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mac:
    """A Mac that the hub isn't reached from."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return Mac(tmp_path / "mac", monkeypatch)
