"""The report of `mlxft-tui doctor`, as text and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlxft.doctor.checkup import Report, Section
from mlxft.doctor.finding import Finding, Verdict
from mlxft.doctor.report_text import report_lines
from mlxft_tui.cli import doctor


def report(verdict: Verdict) -> Report:
    findings = [Finding("swap", verdict, "9.46 GB used", "Close programs: a run would be slow.")]
    return Report("0.1.0", [Section("Machine", [Finding("heat", "ok", "nominal"), *findings])])


def test_the_text_has_each_remedy_below_its_finding() -> None:
    assert [each.text for each in report_lines(report("warning"), 60)] == [
        "mlxft-tui 0.1.0",
        "",
        "Machine",
        "  ok       heat               nominal",
        "  warning  swap               9.46 GB used",
        "                              → Close programs: a run would",
        "                                be slow.",
        "",
        "1 warning",
    ]


@pytest.mark.parametrize(("verdict", "status"), [("problem", 1), ("warning", 0), ("note", 0)])
def test_json_is_one_object_and_a_problem_the_exit_status(
    verdict: Verdict,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(doctor, "checkup", lambda *_: report(verdict))
    assert doctor.doctor(Path(), as_json=True) == status
    printed = json.loads(capsys.readouterr().out)
    assert printed["has_problem"] == bool(status)
    assert printed["sections"][0]["findings"][0] == {
        "subject": "heat",
        "verdict": "ok",
        "seen": "nominal",
        "remedy": None,
    }
