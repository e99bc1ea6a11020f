"""Check that a release's tag matches the version and has its entry in CHANGELOG.md."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import mlxft


def main(tag: str) -> int:
    changelog = Path(__file__).parents[1] / "CHANGELOG.md"
    entry = re.compile(
        rf"^## \[{re.escape(mlxft.__version__)}\] - \d{{4}}-\d\d-\d\d$", re.MULTILINE
    )
    if tag != f"v{mlxft.__version__}":
        print(f"The tag is {tag or 'missing'}, but the version is {mlxft.__version__}.")
    elif not entry.search(changelog.read_text(encoding="utf-8")):
        print(f"CHANGELOG.md has no dated entry for {mlxft.__version__}.")
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
