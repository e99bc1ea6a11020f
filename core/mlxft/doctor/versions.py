"""Versions of Python, the packages and the system against what is supported."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version

from mlxft.doctor.finding import Finding, unknown

PACKAGE: Final = "mlxft-tui"

OLDEST_PYTHON: Final = (3, 11)
NEWEST_TESTED_PYTHON: Final = (3, 14)
OLDEST_MACOS: Final = 14
"""mlx publishes wheels for macOS 14 and newer."""

_SHOWN: Final = ("mlx", "mlx-lm", "textual")
"""Packages with a finding of their own; the others share one."""

_INSTALL: Final = "Install again: pip install 'PATH/TO/mlxft-tui', with the path of your clone."


def python_finding(found: tuple[int, int, int]) -> Finding:
    """Python's version."""
    shown = ".".join(map(str, found))
    if found[:2] < OLDEST_PYTHON:
        return Finding("Python", "problem", shown, "Use Python 3.11 or newer.")
    if found[:2] > NEWEST_TESTED_PYTHON:
        return Finding("Python", "note", f"{shown}, newer than those tested (3.11 to 3.14)")
    return Finding("Python", "ok", shown)


def declared_requirements() -> list[str]:
    """What the installed package requires, as pip reads it; empty if it isn't installed."""
    try:
        return list(requires(PACKAGE) or ())
    except PackageNotFoundError:
        return []


def installed_versions(requirements: Iterable[str]) -> dict[str, str]:
    """The installed version of each package that a requirement names."""
    found: dict[str, str] = {}
    for each in _applicable(requirements):
        try:
            found[each.name] = version(each.name)
        except PackageNotFoundError:
            continue
    return found


def package_findings(requirements: Iterable[str], installed: Mapping[str, str]) -> list[Finding]:
    """The packages that matter most, one by one, then those of the others that are wrong."""
    wanted = list(_applicable(requirements))
    if not wanted:
        return [unknown(each) for each in _SHOWN]
    found = [_package(each, installed.get(each.name)) for each in wanted]
    shown = [each for each in found if each.subject in _SHOWN]
    others = [each for each in found if each.subject not in _SHOWN]
    wrong = [each for each in others if each.verdict != "ok"]
    rest = Finding("other packages", "ok", f"{len(others)} as required")
    return [*shown, *(wrong or [rest])]


def _applicable(requirements: Iterable[str]) -> Iterator[Requirement]:
    """The requirements without extras, for this interpreter."""
    for text in requirements:
        try:
            each = Requirement(text)
            applies = each.marker is None or each.marker.evaluate({"extra": ""})
        except InvalidRequirement:
            continue
        if applies:
            yield each


def _package(wanted: Requirement, found: str | None) -> Finding:
    if found is None:
        return Finding(wanted.name, "problem", "not installed", _INSTALL)
    try:
        fits = wanted.specifier.contains(Version(found), prereleases=True)
    except InvalidVersion:
        return Finding(wanted.name, "note", f"{found}, which is no version")
    if fits:
        return Finding(wanted.name, "ok", found)
    return Finding(wanted.name, "problem", f"{found}, required {wanted.specifier}", _INSTALL)


def macos_finding(printed: str) -> Finding:
    """The version that ``sw_vers -productVersion`` prints."""
    major = printed.strip().partition(".")[0]
    if not major.isdecimal() or int(major) < 10:
        return unknown("macOS")
    if int(major) < OLDEST_MACOS:
        return Finding("macOS", "problem", printed.strip(), "mlx needs macOS 14 or newer: update.")
    return Finding("macOS", "ok", printed.strip())


def mac_processor_finding(interpreter: str, has_arm64: bool | None, chip: str | None) -> Finding:
    """Whether Python runs natively; `interpreter` is its architecture."""
    name = chip or "chip not known"
    if interpreter == "arm64":
        return Finding("processor", "ok", f"{name}, Python is native")
    if has_arm64:
        return Finding(
            "processor",
            "problem",
            f"{name}, but this Python is for Intel and runs under Rosetta",
            "Install a Python for Apple silicon (arm64) and this program with it.",
        )
    if has_arm64 is None:
        return unknown("processor")
    return Finding("processor", "problem", f"{name}, an Intel Mac", "mlx needs Apple silicon.")


def linux_finding() -> Finding:
    """The system and architecture of a machine that isn't a Mac."""
    return Finding("system", "ok", f"{platform.system()} {platform.machine()}")


def running_python() -> tuple[int, int, int]:
    """This interpreter's version."""
    return sys.version_info[:3]
