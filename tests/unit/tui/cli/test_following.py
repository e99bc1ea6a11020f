"""A run's events on stdout, and its failure: a sentence on stderr, as JSON an event besides."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlxft.runs import events as ev
from mlxft_tui.cli.main import main
from support.journal import RUN_RECIPE, trained_run, write_run

FAILED = ev.RunFailed(message="The disk is full.", step=3, log="engine.log")
SENTENCE = "mlxft-tui: lamp-1 failed at step 3: The disk is full.\n"


def attach(folder: Path, *words: str) -> int:
    return main(["attach", "lamp-1", "--dir", str(folder), *words])


def test_a_failure_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = [*trained_run(RUN_RECIPE, 3), FAILED]
    write_run(tmp_path / "adapters", RUN_RECIPE, events, "lamp")
    assert attach(tmp_path) == 1
    lines, said = capsys.readouterr()
    assert "failed" not in lines
    assert said == SENTENCE

    assert attach(tmp_path, "--json") == 1
    lines, said = capsys.readouterr()
    assert [json.loads(line)["event"] for line in lines.splitlines()].count("run_failed") == 1
    assert said == SENTENCE


def test_a_failure_before_a_resume_is_an_event_among_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events = [*trained_run(RUN_RECIPE, 3), FAILED, *trained_run(RUN_RECIPE, 3, start=3), FAILED]
    write_run(tmp_path / "adapters", RUN_RECIPE, events, "lamp")
    assert attach(tmp_path) == 1
    assert capsys.readouterr().out.count("failed at step 3") == 1
