"""Progress on stderr beside a command's output on stdout."""

from __future__ import annotations

import math
import sys
import time

from mlxft.runs import events as ev
from mlxft.runs.events import AnyEvent
from mlxft.text.printable import printable_line
from mlxft_tui.text import event_text
from mlxft_tui.text.progress import Progress, sample_so_far

LINE_SECONDS = 5.0
"""Time between two progress lines of one stage where no terminal can rewrite a line."""


SAMPLE_CELLS = 60
"""Cells of a sample's text while it is generated."""


class StatusLine:
    """Events as lines on stdout, progress as one line on stderr.

    On a terminal the progress line is rewritten in place below the output. Elsewhere progress is
    omitted, or printed every few seconds with `in_lines`.
    """

    def __init__(self, *, in_lines: bool = False) -> None:
        self._on_terminal = sys.stderr.isatty()
        self._in_lines = in_lines and not self._on_terminal
        self._progress = Progress()
        self._is_shown = False
        """Whether the last line on the terminal is progress."""
        self._last_line = ("", -math.inf)
        """Stage and time of the last progress that was printed as a line."""

    def __enter__(self) -> StatusLine:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def show(self, event: AnyEvent) -> None:
        """Print an event's line, or its progress."""
        text = event_text.line(event)
        if text is not None:
            self.clear()
            print(text, flush=True)
        elif isinstance(event, ev.ProgressMade):
            self.progress(event)

    def progress(self, progress: ev.ProgressMade) -> None:
        """Show progress until the next line."""
        now = time.monotonic()
        text = self._progress.describe(progress, now)
        self._rewrite(f"{text} {sample_so_far(progress, SAMPLE_CELLS)}".strip())
        stage, at = self._last_line
        if self._in_lines and (progress.stage != stage or now - at >= LINE_SECONDS):
            self._last_line = progress.stage, now
            self.say(f"{text} {progress.note}".strip())

    def say(self, text: str) -> None:
        """Print a line on stderr."""
        self.clear()
        print(printable_line(text), file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Remove the progress line."""
        self._rewrite("")

    def _rewrite(self, text: str) -> None:
        # Without a progress line this would erase output that ends within a line.
        if self._on_terminal and (text or self._is_shown):
            self._is_shown = bool(text)
            print(f"\r\x1b[K{printable_line(text)}", end="", file=sys.stderr, flush=True)
