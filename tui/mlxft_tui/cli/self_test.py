"""`mlxft-tui doctor --self-test`: measurements on this machine, as a table and a file to share."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Final

from mlxft.doctor.report_text import WIDEST, self_test_lines
from mlxft.doctor.self_test.plan import SECONDS, Plan
from mlxft.doctor.self_test.self_test import FILE, self_test, write
from mlxft.doctor.self_test.watch import Progress, Watch
from mlxft.text import path_json
from mlxft.text.figures import short_path
from mlxft_tui.terminal.invocation import OPEN_APP

INTERRUPTED: Final = 130
"""The exit status after Ctrl+C, as shells have it."""


def run_self_test(
    project: Path, out: Path | None, *, as_json: bool, plan: Plan | None = None
) -> int:
    """Measure, print the table and write the file: 1 if anything differs, 130 after Ctrl+C."""
    live = _Line() if sys.stderr.isatty() else None
    watch = Watch(plan.seconds if plan else SECONDS, live.show if live else _print_progress)
    try:
        found = self_test(project, watch, app=OPEN_APP, plan=plan)
    except KeyboardInterrupt:
        print("\nCancelled; nothing is left running.", file=sys.stderr)
        return INTERRUPTED
    finally:
        if live is not None:
            live.clear()
    file = out or project / FILE
    write(found, file)
    if as_json:
        print(path_json.indented(found).decode())
    else:
        columns = shutil.get_terminal_size((WIDEST, 24)).columns
        print("\n".join(each.text for each in self_test_lines(found, columns)))
        print(f"\n{short_path(file)} has all figures and no personal details; share it.")
    return int(found.has_difference)


def _print_progress(progress: Progress) -> None:
    if progress.latest is None:
        print(progress.line, file=sys.stderr, flush=True)


class _Line:
    """One line of a terminal that is written again and again."""

    def show(self, progress: Progress) -> None:
        """Replace the line."""
        columns = shutil.get_terminal_size().columns
        print(f"\r{progress.line[: columns - 1]}\x1b[K", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Remove the line."""
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
