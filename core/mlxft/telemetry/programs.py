"""Which applications of a Mac use how much memory."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

from mlxft.telemetry.apple import Command
from mlxft.text.printable import printable_line

PROGRAMS: Final[Command] = ("/bin/ps", "-axo", "rss=,comm=")


def parse_programs(text: str) -> dict[str, int]:
    """Bytes by application, from ``ps``; other processes have names that may be private."""
    found = Counter[str]()
    for kilobytes, path in re.findall(r"^\s*(\d+)\s+(/.*)$", text, re.M):
        name = re.search(r"/([^/]+)\.app/", path)
        if name:
            found[printable_line(name[1])] += int(kilobytes) * 1024
    return dict(found)
