"""How the viewer learns of its terminal's size."""

from __future__ import annotations

import asyncio
import os
import signal

from textual.drivers.linux_driver import LinuxDriver
from textual.events import Resize
from textual.geometry import Size


class TerminalDriver(LinuxDriver):
    """Textual's driver, whose last word on the size is always the terminal's.

    Textual reads the size within the signal's handler. When the next signal interrupts the handler
    between reading and telling, the older size is told last, and the screen keeps it. And it trusts
    ``COLUMNS`` and ``LINES``, which stay as they were when the terminal is resized.
    """

    def start_application_mode(self) -> None:
        super().start_application_mode()  # type: ignore[no-untyped-call]
        # The loop calls one handler after another. Coming back from a suspension ends here too.
        asyncio.get_running_loop().add_signal_handler(signal.SIGWINCH, self._tell_size)

    def _get_terminal_size(self) -> tuple[int, int]:
        try:
            columns, lines = os.get_terminal_size(self.fileno)
        except OSError:
            return super()._get_terminal_size()
        # A serial line that was never told its size says 0 × 0.
        return (columns, lines) if columns and lines else super()._get_terminal_size()

    def _tell_size(self) -> None:
        if not self._in_band_window_resize:
            size = Size(*self._get_terminal_size())
            self._app.post_message(Resize(size, size))
