"""`mlxft-tui doctor`: this machine, its settings and the terminal, each finding with its remedy."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mlxft.doctor.checkup import Report, checkup
from mlxft.doctor.finding import Finding
from mlxft.doctor.terminal import Terminal
from mlxft.text import path_json

_WIDEST: Final = 100
"""Columns of the report; more are hard to read and don't fit into an issue."""

_INDENT: Final = 30
"""Columns of verdict and subject."""


def doctor(project: Path, *, as_json: bool) -> int:
    """Print the report; 1 if there is a problem, else 0."""
    report = checkup(project, terminal())
    if as_json:
        print(path_json.indented(mapping(report)).decode())
    else:
        columns = shutil.get_terminal_size((_WIDEST, 24)).columns
        print("\n".join(lines(report, max(_INDENT + 20, min(columns, _WIDEST)))))
    return int(report.has_problem)


def mapping(report: Report) -> dict[str, object]:
    """The report as one JSON object."""
    return {
        "version": report.version,
        "has_problem": report.has_problem,
        "sections": report.sections,
    }


def lines(report: Report, width: int) -> Iterator[str]:
    """The report as text, for a terminal or an issue."""
    yield f"mlxft-tui {report.version}"
    for section in report.sections:
        yield ""
        yield section.title
        for each in section.findings:
            yield from _lines(each, width)
    yield ""
    yield _summary(report)


def _lines(finding: Finding, width: int) -> Iterator[str]:
    beside = " " * _INDENT
    first = f"  {finding.verdict:<9}{finding.subject:<{_INDENT - 12}} "
    yield from textwrap.wrap(
        finding.seen, width, initial_indent=first, subsequent_indent=beside, break_on_hyphens=False
    )
    if finding.remedy:
        yield from textwrap.wrap(
            finding.remedy,
            width,
            initial_indent=f"{beside}→ ",
            subsequent_indent=f"{beside}  ",
            break_on_hyphens=False,
        )


def _summary(report: Report) -> str:
    counts = Counter(each.verdict for each in report.findings)
    problems, warnings = counts["problem"], counts["warning"]
    if not problems and not warnings:
        return "No problem and no warning."
    return ", ".join(
        f"{number} {name}{'' if number == 1 else 's'}"
        for number, name in ((problems, "problem"), (warnings, "warning"))
        if number
    )


def terminal() -> Terminal:
    """The terminal of this command; without a size where the output goes elsewhere."""
    environment, mosh = dict(os.environ), _is_in_mosh()
    encoding = sys.stdout.encoding or "ascii"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return Terminal(environment, None, encoding, None, mosh)
    from mlxft_tui.terminal.modes import has_synchronized_output

    reading, writing = sys.stdin.fileno(), sys.stderr.fileno()
    try:
        size = os.get_terminal_size(writing)
    except OSError:
        return Terminal(environment, None, encoding, None, mosh)
    synchronized = has_synchronized_output(reading, writing)
    return Terminal(environment, (size.columns, size.lines), encoding, synchronized, mosh)


def _is_in_mosh() -> bool:
    """Whether mosh's server is among this process's parents."""
    import psutil

    try:
        return any("mosh-server" in each.name() for each in psutil.Process().parents())
    except (OSError, RuntimeError, psutil.Error):
        return False
