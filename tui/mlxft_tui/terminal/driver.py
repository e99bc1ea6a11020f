"""Terminal input and size."""

from __future__ import annotations

import asyncio
import codecs
import logging
import os
import re
import selectors
import signal
import sys
import time
from collections.abc import Iterable

from textual._xterm_parser import XTermParser
from textual.drivers.linux_driver import LinuxDriver
from textual.events import Key, Paste, Resize
from textual.geometry import Size
from textual.message import Message

from mlxft_tui.terminal.escapes import ESCAPE, Escapes
from mlxft_tui.terminal.pastes import Input, Pastes

READ_BYTES = 4096
"""Bytes of input per read."""

WAIT_SECONDS = 0.1
"""How long to wait for the rest of an escape sequence, and between checks for the exit."""

PASTE_SECONDS = 5.0
"""How long a paste may pause before it counts as ended."""


class TerminalDriver(LinuxDriver):
    """Textual's driver, made to survive any input and to follow the terminal's size.

    Textual reads only UTF-8 and exits at the first invalid byte, such as from a terminal with
    another encoding or a pasted binary file. It turns a paste that contains an escape into keys.

    Textual reads the size in the signal handler. If another signal interrupts it between reading
    and posting, the older size is posted last and stays. It also trusts ``COLUMNS`` and ``LINES``,
    which don't change when the terminal is resized.
    """

    def start_application_mode(self) -> None:
        super().start_application_mode()  # type: ignore[no-untyped-call]
        # The event loop never nests handlers. Resuming from a suspension comes through here too.
        asyncio.get_running_loop().add_signal_handler(signal.SIGWINCH, self._post_size)

    def run_input_thread(self) -> None:
        """Dispatch input until the application exits. Raises `OSError` without a terminal."""
        parser, pastes, escapes = KeyParser(self._debug), Pastes(), Escapes(self._alt_keys())
        decode = codecs.getincrementaldecoder(_input_encoding())("replace").decode
        silent_since = time.monotonic()
        with selectors.SelectSelector() as selector:
            selector.register(self.fileno, selectors.EVENT_READ)
            while not self.exit_event.is_set():
                is_silent = not selector.select(WAIT_SECONDS)
                if not is_silent:
                    parts = pastes.feed(decode(os.read(self.fileno, READ_BYTES)))
                    silent_since = time.monotonic()
                elif time.monotonic() - silent_since < PASTE_SECONDS:
                    parts = pastes.flush()
                else:
                    parts = pastes.cut()
                pieces = [piece for part in parts for piece in escapes.split(part)]
                for piece in (*pieces, *(escapes.flush() if is_silent else ()), None):
                    try:
                        for message in _messages(parser, piece):
                            self.process_message(message)
                    except (ValueError, ArithmeticError):
                        # Textual fails on some well-formed key reports.
                        logging.getLogger(__name__).warning("unreadable keys", exc_info=True)
                        parser = KeyParser(self._debug)

    def _alt_keys(self) -> frozenset[str]:
        """Characters that keys.toml binds together with Alt."""
        keys = ",".join(self._app._keymap.values()).split(",")
        return frozenset(key.removeprefix("alt+") for key in keys if re.fullmatch(r"alt\+\S", key))

    def _get_terminal_size(self) -> tuple[int, int]:
        try:
            columns, lines = os.get_terminal_size(self.fileno)
        except OSError:
            return super()._get_terminal_size()
        # A serial line of unknown size reports 0 × 0.
        return (columns, lines) if columns and lines else super()._get_terminal_size()

    def _post_size(self) -> None:
        if not self._in_band_window_resize:
            size = Size(*self._get_terminal_size())
            self._app.post_message(Resize(size, size))


class KeyParser(XTermParser):
    """Textual's parser, made to keep an escape before a bracket or O that starts no sequence."""

    def _sequence_to_key_events(self, sequence: str, alt: bool = False) -> Iterable[Key]:
        starts_sequences = sequence in ("[", "O")
        if alt and starts_sequences:
            yield Key("escape", ESCAPE)
        yield from super()._sequence_to_key_events(sequence, alt and not starts_sequences)


def _messages(parser: XTermParser, part: Input | None) -> Iterable[Message]:
    """Messages of a part of the input, or without one those of keys that timed out."""
    if part is None:
        return parser.tick()
    if part.pasted:
        return (Paste(part.text),)
    return (Key("escape", ESCAPE),) if part.text == ESCAPE else parser.feed(part.text)


def _input_encoding() -> str:
    """The locale's encoding; ASCII says nothing about the terminal."""
    encoding = codecs.lookup(sys.__stdin__.encoding if sys.__stdin__ else "utf-8").name
    return "utf-8" if encoding == "ascii" else encoding
