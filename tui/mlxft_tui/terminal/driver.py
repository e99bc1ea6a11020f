"""How the viewer learns of what is typed and of its terminal's size."""

from __future__ import annotations

import asyncio
import codecs
import logging
import os
import selectors
import signal
import sys
import time
from collections.abc import Iterable

from textual._xterm_parser import XTermParser
from textual.drivers.linux_driver import LinuxDriver
from textual.events import Paste, Resize
from textual.geometry import Size
from textual.message import Message

from mlxft_tui.terminal.pastes import Part, Pastes

READ_BYTES = 4096
"""Bytes of what is typed that are read at once."""

WAIT_SECONDS = 0.1
"""How long an escape is waited for to become more than a key, and the end of the application."""

PASTE_SECONDS = 5.0
"""How long a paste may be silent before its end is taken for lost; until then nothing is a key."""


class TerminalDriver(LinuxDriver):
    """Textual's driver, which survives any byte and whose last word on the size is the terminal's.

    Textual reads UTF-8 only, and ends with the first byte that is none: as of a terminal that
    writes its keys in another encoding, or a file's content that is pasted. Of a paste that holds
    an escape it makes keys.

    Textual reads the size within the signal's handler. When the next signal interrupts the handler
    between reading and telling, the older size is told last, and the screen keeps it. And it trusts
    ``COLUMNS`` and ``LINES``, which stay as they were when the terminal is resized.
    """

    def start_application_mode(self) -> None:
        super().start_application_mode()  # type: ignore[no-untyped-call]
        # The loop calls one handler after another. Coming back from a suspension ends here too.
        asyncio.get_running_loop().add_signal_handler(signal.SIGWINCH, self._tell_size)

    def run_input_thread(self) -> None:
        """Dispatch what is typed until the application ends. Raises `OSError` without terminal."""
        parser, pastes = XTermParser(self._debug), Pastes()
        decode = codecs.getincrementaldecoder(_encoding_of_keys())("replace").decode
        silent_since = time.monotonic()
        with selectors.SelectSelector() as selector:
            selector.register(self.fileno, selectors.EVENT_READ)
            while not self.exit_event.is_set():
                if selector.select(WAIT_SECONDS):
                    parts = pastes.parted(decode(os.read(self.fileno, READ_BYTES)))
                    silent_since = time.monotonic()
                elif time.monotonic() - silent_since < PASTE_SECONDS:
                    parts = pastes.waited()
                else:
                    parts = pastes.cut()
                for part in (*parts, None):
                    try:
                        for message in _messages(parser, part):
                            self.process_message(message)
                    except (ValueError, ArithmeticError):
                        # Not each well-formed report of a key is one that Textual can read.
                        logging.getLogger(__name__).warning("unreadable keys", exc_info=True)
                        parser = XTermParser(self._debug)

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


def _messages(parser: XTermParser, part: Part | None) -> Iterable[Message]:
    """What has been typed or pasted; where nothing has, what has waited long enough."""
    if part is None:
        return parser.tick()
    return (Paste(part.text),) if part.pasted else parser.feed(part.text)


def _encoding_of_keys() -> str:
    """The locale's, as for what is painted; a locale without any says nothing of the terminal."""
    encoding = codecs.lookup(sys.__stdin__.encoding if sys.__stdin__ else "utf-8").name
    return "utf-8" if encoding == "ascii" else encoding
