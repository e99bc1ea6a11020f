"""A report and a self-test as lines of text, for a terminal, the app or an issue."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from mlxft.doctor.checkup import Report, Section
from mlxft.doctor.finding import Finding
from mlxft.doctor.self_test.self_test import PartResult, SelfTest
from mlxft.self_test.checks import Check, Outcome

WIDEST: Final = 100
"""Columns of a report; more are hard to read and don't fit into an issue."""

NARROWEST: Final = 50

_FINDING_INDENT: Final = 30
"""Columns of verdict and subject."""

_CHECK_INDENT: Final = 11
"""Columns of a check's outcome."""

_OUTCOMES: Final[dict[Outcome, str]] = {
    "passed": "ok",
    "differs": "differs",
    "noted": "note",
    "skipped": "skipped",
    "left_out": "left out",
}

_LEFT_OUT: Final = (
    "Run it again for what was left out; on an NVIDIA GPU it gets further then, since compiled "
    "kernels are kept."
)


class Line(NamedTuple):
    """A line of text: a title, one that begins with a verdict, or plain."""

    text: str
    verdict: str = ""
    is_title: bool = False


def report_lines(report: Report, width: int) -> Iterator[Line]:
    """The doctor's findings by section, and their number."""
    yield Line(f"mlxft-tui {report.version}")
    for section in report.sections:
        yield Line("")
        yield from section_lines(section, width)
    yield Line("")
    yield Line(report_summary(report))


def section_lines(section: Section, width: int) -> Iterator[Line]:
    """A section's title and findings."""
    yield Line(section.title, is_title=True)
    for each in section.findings:
        yield from _finding_lines(each, _bounded(width))


def self_test_lines(found: SelfTest, width: int) -> Iterator[Line]:
    """A self-test as a table, each line that differs with its remedy."""
    device = found.device
    yield Line(f"mlxft-tui {found.version}, {device.device} ({device.kind}), {found.system}")
    yield from part_lines(found.parts, width)
    yield Line("")
    yield Line(self_test_summary(found.checks, found.seconds))
    if any(each.outcome == "left_out" for each in found.checks):
        yield from (Line(each) for each in textwrap.wrap(_LEFT_OUT, _bounded(width)))


def part_lines(parts: Iterable[PartResult], width: int) -> Iterator[Line]:
    """Parts of a self-test with their checks."""
    for part in parts:
        yield Line("")
        yield Line(part.title, is_title=True)
        for each in part.checks:
            yield from _check_lines(each, _bounded(width))


def report_summary(report: Report) -> str:
    """How many problems and warnings there are."""
    counts = Counter(each.verdict for each in report.findings)
    problems, warnings = counts["problem"], counts["warning"]
    if not problems and not warnings:
        return "No problem and no warning."
    return ", ".join(
        f"{number} {name}{'' if number == 1 else 's'}"
        for number, name in ((problems, "problem"), (warnings, "warning"))
        if number
    )


def self_test_summary(checks: Sequence[Check], seconds: float) -> str:
    """How many checks passed and differ."""
    counts = Counter(each.outcome for each in checks)
    words = [f"{counts['passed']} passed", f"{counts['differs']} differ"]
    if counts["skipped"]:
        words.append(f"{counts['skipped']} skipped")
    if counts["left_out"]:
        words.append(f"{counts['left_out']} left out for lack of time")
    return f"{', '.join(words)}, in {seconds:.0f} s"


def _bounded(width: int) -> int:
    return max(NARROWEST, min(width, WIDEST))


def _finding_lines(finding: Finding, width: int) -> Iterator[Line]:
    first = f"  {finding.verdict:<9}{finding.subject:<{_FINDING_INDENT - 12}} "
    yield from _wrapped(finding.seen, first, finding.verdict, finding.remedy, width)


def _check_lines(check: Check, width: int) -> Iterator[Line]:
    word = _OUTCOMES[check.outcome]
    first = f"  {word:<{_CHECK_INDENT - 2}}"
    yield from _wrapped(f"{check.subject}: {check.seen}", first, word, check.remedy, width)


def _wrapped(seen: str, first: str, verdict: str, remedy: str | None, width: int) -> Iterator[Line]:
    """What was seen beside its verdict, and the remedy below."""
    beside = " " * len(first)
    wrapped = textwrap.wrap(
        seen, width, initial_indent=first, subsequent_indent=beside, break_on_hyphens=False
    )
    for at, text in enumerate(wrapped):
        yield Line(text, verdict if at == 0 else "")
    if remedy:
        for text in textwrap.wrap(
            remedy,
            width,
            initial_indent=f"{beside}→ ",
            subsequent_indent=f"{beside}  ",
            break_on_hyphens=False,
        ):
            yield Line(text)
