"""The command line shown in hints."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mlxft_tui.terminal import invocation


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bin folder with our program in the current folder."""
    folder = tmp_path / ".venv" / "bin"
    folder.mkdir(parents=True)
    program = folder / "mlxft-tui"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    return folder


class TestCommand:
    def test_it_is_a_path_if_the_program_is_not_on_the_path(self, installed: Path) -> None:
        assert invocation.command("attach") == ".venv/bin/mlxft-tui attach"

    def test_it_is_absolute_from_elsewhere(
        self, installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "other").mkdir()
        monkeypatch.chdir(tmp_path / "other")
        assert invocation.command("attach") == f"{installed}/mlxft-tui attach"

    def test_it_is_the_name_if_on_the_path(
        self, installed: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(installed))
        assert invocation.command("attach") == "mlxft-tui attach"

    @pytest.mark.parametrize(
        ("run", "said"),
        [
            ("adapters/one", "attach one"),
            ("mine/adapters/one", "attach one --dir mine"),
            ("my runs/one", "attach 'my runs/one'"),
        ],
    )
    def test_that_acts_on_a_run_finds_it_from_here(
        self, installed: Path, tmp_path: Path, run: str, said: str
    ) -> None:
        here = ".venv/bin/mlxft-tui"
        assert invocation.of_run("attach", tmp_path / run) == f"{here} {said}"

    def test_without_a_program_it_is_the_module(self, installed: Path) -> None:
        (installed / "mlxft-tui").unlink()
        assert invocation.command("runs") == f"{sys.executable} -m mlxft_tui.cli runs"
