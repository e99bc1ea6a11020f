"""`mlxft-tui doctor`: this machine, its settings and the terminal, each finding with its remedy."""

from __future__ import annotations

import shutil
from pathlib import Path

from mlxft.doctor.checkup import Report, checkup
from mlxft.doctor.report_text import WIDEST, report_lines
from mlxft.text import path_json
from mlxft_tui.terminal.described import of_command


def doctor(project: Path, *, as_json: bool) -> int:
    """Print the report; 1 if there is a problem, else 0."""
    report = checkup(project, of_command())
    if as_json:
        print(path_json.indented(mapping(report)).decode())
    else:
        columns = shutil.get_terminal_size((WIDEST, 24)).columns
        print("\n".join(each.text for each in report_lines(report, columns)))
    return int(report.has_problem)


def mapping(report: Report) -> dict[str, object]:
    """The report as one JSON object."""
    return {
        "version": report.version,
        "has_problem": report.has_problem,
        "sections": report.sections,
    }
