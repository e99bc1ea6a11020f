"""Every test has its own cache, runtime and log folders; nothing touches the user's."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlxft_tui.terminal import garbage


def pytest_collection_finish() -> None:
    """Collect garbage as the application does; Python's own rule is a third of a screen's test."""
    garbage.settle()


def pytest_sessionfinish() -> None:
    """Pytest collects five times at its end, which takes two seconds unless most is settled."""
    garbage.settle()


@pytest.fixture(autouse=True)
def private_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The runtime folder is short, because a socket's path may hold 104 bytes on macOS."""
    runtime = Path(tempfile.mkdtemp(prefix="mlxft-", dir="/tmp"))
    monkeypatch.setenv("MLXFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MLXFT_RUNTIME", str(runtime))
    monkeypatch.setenv("MLXFT_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("MLXFT_LOGS", str(tmp_path / "logs"))
    monkeypatch.setenv("MLXFT_PEAKS", str(tmp_path / "peaks.jsonl"))
    monkeypatch.setenv("MLXFT_CONFIG", str(tmp_path / "config"))
    for name in ("SSH_CONNECTION", "SSH_TTY", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    yield
    shutil.rmtree(runtime, ignore_errors=True)
