"""What a terminal answers about its modes."""

from __future__ import annotations

import os
import pty
import termios
import threading

import pytest

from mlxft_tui.terminal.modes import has_synchronized_output, parse_answer


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        (b"\x1b[?2026;2$y\x1b[?62;4c", True),
        (b"\x1b[?2026;0$y\x1b[?62c", False),
        (b"\x1b[?1;2c", False),
        (b"typed\x1b[?2026;1$y", None),
        (b"", None),
    ],
)
def test_answers(answer: bytes, meaning: bool | None) -> None:
    assert parse_answer(answer) is meaning


def test_a_terminal_is_asked_and_left_as_it_was() -> None:
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)

    def answer() -> None:
        question = b""
        while not question.endswith(b"\x1b[c"):
            question += os.read(ours, 64)
        os.write(ours, b"\x1b[?2026;2$y\x1b[?62;22c")

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        assert has_synchronized_output(theirs, theirs, 20) is True
        assert termios.tcgetattr(theirs) == before
    finally:
        thread.join()
        os.close(ours)
        os.close(theirs)


def test_a_terminal_that_does_not_answer_costs_a_limited_time() -> None:
    ours, theirs = pty.openpty()
    try:
        assert has_synchronized_output(theirs, theirs, 0.05) is None
    finally:
        os.close(ours)
        os.close(theirs)
