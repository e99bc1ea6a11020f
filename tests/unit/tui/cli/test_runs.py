"""`mlxft-tui runs` as text."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxft_tui.cli.runs import runs
from support.journal import RUN_RECIPE, ended, trained_run, write_run


def test_a_run_shows_what_training_improved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path, RUN_RECIPE, [*trained_run(RUN_RECIPE, 500), ended(500)])
    write_run(tmp_path, RUN_RECIPE, trained_run(RUN_RECIPE, 1))
    assert runs(tmp_path, as_json=False) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = (each for each in lines if each.startswith(run.name))
    assert "  val 2.500 → " in line
    assert "  val 2.500 before  " in next(each for each in lines if each != line)
