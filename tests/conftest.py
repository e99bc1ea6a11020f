"""Every test has its own cache, runtime and log folders; nothing touches the user's."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlxft_tui.terminal import garbage

# What modules read from the cache when they are imported must not be the user's either.
os.environ["MLXFT_CACHE"] = str(Path(tempfile.gettempdir()) / "mlxft-tests-cache")


def pytest_collection_finish() -> None:
    """Collect garbage as the application does; Python's own rule is a third of a screen's test."""
    garbage.settle()


def pytest_sessionfinish() -> None:
    """Pytest collects five times at its end, which takes two seconds unless most is settled."""
    garbage.settle()


@pytest.fixture(autouse=True)
def private_folders(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """They are short, because a socket's path may hold 104 bytes on macOS.

    They are not in the test's own folder: few tests need one, and pytest lists all others first.
    """
    folder = Path(tempfile.mkdtemp(prefix="mlxft-", dir="/tmp"))
    (folder / "runtime").mkdir(mode=0o700)
    for name in ("CACHE", "RUNTIME", "STATE", "LOGS", "CONFIG"):
        monkeypatch.setenv(f"MLXFT_{name}", str(folder / name.lower()))
    monkeypatch.setenv("MLXFT_PEAKS", str(folder / "peaks.jsonl"))
    for name in ("SSH_CONNECTION", "SSH_TTY", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    yield
    shutil.rmtree(folder, ignore_errors=True)
