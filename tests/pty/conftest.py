"""A project, and the application in real terminals."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from support.project import Project, make_project
from support.terminal import Terminal

APP = [sys.executable, "-m", "mlxft_tui.cli"]

Open = Callable[..., Terminal]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project whose remaining engines end with the test."""
    made = make_project(tmp_path / "project")
    yield made
    made.end_engines()


@pytest.fixture
def open_app() -> Iterator[Open]:
    """Opens the application in a terminal, which is closed after the test."""
    opened: list[Terminal] = []

    def open_in(
        arguments: Sequence[str | Path],
        columns: int = 120,
        rows: int = 40,
        environment: dict[str, str] | None = None,
        folder: Path | None = None,
    ) -> Terminal:
        command = [*APP, *map(str, arguments)]
        opened.append(Terminal(command, columns, rows, environment, folder))
        return opened[-1]

    yield open_in
    for terminal in opened:
        terminal.__exit__(None, None, None)
