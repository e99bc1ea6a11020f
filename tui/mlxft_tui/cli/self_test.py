"""`mlxft-tui doctor --self-test`: measurements on this machine, as a table and a file to share."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from mlxft.doctor.self_test.plan import SECONDS, Plan
from mlxft.doctor.self_test.self_test import FILE, SelfTest, self_test, write
from mlxft.doctor.self_test.watch import Progress, Watch
from mlxft.self_test.checks import Check, Outcome
from mlxft.text import path_json
from mlxft.text.figures import short_path

INTERRUPTED: Final = 130
"""The exit status after Ctrl+C, as shells have it."""

_WIDEST: Final = 110

_INDENT: Final = 11

_SYMBOLS: Final[dict[Outcome, str]] = {
    "passed": "ok",
    "differs": "DIFFERS",
    "noted": "note",
    "skipped": "skipped",
}


def app_command() -> list[str]:
    """The command that opens the app, by this interpreter."""
    return [sys.executable, "-P", "-m", "mlxft_tui.cli"]


def run_self_test(
    project: Path, out: Path | None, *, as_json: bool, plan: Plan | None = None
) -> int:
    """Measure, print the table and write the file: 1 if anything differs, 130 after Ctrl+C."""
    live = _Line() if sys.stderr.isatty() else None
    watch = Watch(plan.seconds if plan else SECONDS, live.show if live else _print_progress)
    try:
        found = self_test(project, watch, app=app_command(), plan=plan)
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
        columns = shutil.get_terminal_size((_WIDEST, 24)).columns
        print("\n".join(lines(found, max(60, min(columns, _WIDEST)))))
        print(f"\n{short_path(file)} has all figures and no personal details; share it.")
    return int(found.has_difference)


def lines(found: SelfTest, width: int) -> Iterator[str]:
    """The self-test as a table, each line that differs with its remedy."""
    yield f"mlxft-tui {found.version}, {found.device.device} ({found.device.kind}), {found.system}"
    for part in found.parts:
        yield ""
        yield part.title
        for each in part.checks:
            yield from check_lines(each, width)
    yield ""
    yield summary(found.checks, found.seconds)


def check_lines(check: Check, width: int) -> Iterator[str]:
    """A check as indented text."""
    beside = " " * _INDENT
    yield from textwrap.wrap(
        f"{check.subject}: {check.seen}",
        width,
        initial_indent=f"  {_SYMBOLS[check.outcome]:<{_INDENT - 2}}",
        subsequent_indent=beside,
        break_on_hyphens=False,
    )
    if check.remedy:
        yield from textwrap.wrap(
            check.remedy,
            width,
            initial_indent=f"{beside}→ ",
            subsequent_indent=f"{beside}  ",
            break_on_hyphens=False,
        )


def summary(checks: Sequence[Check], seconds: float) -> str:
    """How many checks passed and differ."""
    counts = Counter(each.outcome for each in checks)
    words = [f"{counts['passed']} passed", f"{counts['differs']} differ"]
    if counts["skipped"]:
        words.append(f"{counts['skipped']} skipped")
    return f"{', '.join(words)}, in {seconds:.0f} s"


def _print_progress(progress: Progress) -> None:
    if progress.latest is None:
        print(_words(progress), file=sys.stderr, flush=True)


def _words(progress: Progress) -> str:
    where = f"{progress.part} ({progress.number} of {progress.parts})"
    return f"{progress.seconds:4.0f} s  {where}: {progress.subject}"


class _Line:
    """One line of a terminal that is written again and again."""

    def show(self, progress: Progress) -> None:
        """Replace the line."""
        columns = shutil.get_terminal_size().columns
        print(f"\r{_words(progress)[: columns - 1]}\x1b[K", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Remove the line."""
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
