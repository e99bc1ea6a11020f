"""Remove what names a person or a machine, so that a report can be pasted into an issue."""

from __future__ import annotations

import getpass
import platform
import re
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from mlxft.doctor.finding import Finding

_PATTERNS: Final = (
    (re.compile(r"/(?:Users|home)/[^/\s\"']+"), "~"),
    (re.compile(r"\bhf_\w{8,}"), "TOKEN"),
    (re.compile(r"\b(?:GPU-|MIG-)?[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\b"), "ID"),
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b"), "ADDRESS"),
    # Apple's serial numbers: 10 to 12 capitals and digits, both of them.
    (re.compile(r"\b(?=[A-Z]*\d)(?=\d*[A-Z])[A-Z0-9]{10,12}\b"), "SERIAL"),
)
_COMMON: Final = frozenset({"root", "admin", "user", "localhost", "local", "runner", "nobody"})
"""Names that say nothing about anyone."""


def without_names(
    findings: Iterable[Finding], *, home: str, user: str, hosts: Iterable[str]
) -> list[Finding]:
    """The findings without these names, home folders, tokens, addresses and serial numbers."""
    clean = cleaner(home, user, hosts)
    return [
        Finding(each.subject, each.verdict, clean(each.seen), each.remedy and clean(each.remedy))
        for each in findings
    ]


def own_names() -> tuple[str, str, list[str]]:
    """This user's home folder and name, and the names of this machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = ""
    try:
        home = str(Path.home())
    except RuntimeError:
        home = ""
    hosts = {socket.gethostname(), platform.node()}
    return home, user, sorted(hosts | {each.partition(".")[0] for each in hosts})


def cleaner(home: str, user: str, hosts: Iterable[str]) -> Callable[[str], str]:
    """A function that removes these names, home folders, tokens, addresses and serial numbers."""
    names = [(each, "HOST") for each in sorted(hosts, key=len, reverse=True)] + [(user, "USER")]
    patterns = [
        (re.compile(rf"(?<!\w){re.escape(name)}(?!\w)", re.IGNORECASE), instead)
        for name, instead in names
        if len(name) > 1 and name.lower() not in _COMMON
    ]

    def clean(text: str) -> str:
        if len(home) > 1:
            text = text.replace(home, "~")
        for pattern, instead in (*_PATTERNS, *patterns):
            text = pattern.sub(instead, text)
        return text

    return clean
