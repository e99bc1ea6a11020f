"""A terminal that disappears without a signal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

WATCHING = """
import threading
from mlxft_tui.terminal import connection
connection.CHECK_SECONDS = 0.05
connection.watch()
print("watching", flush=True)
threading.Event().wait()
"""


class TestWatchdog:
    def test_a_process_ends_with_its_terminal(self) -> None:
        """A session without a controlling terminal gets no SIGHUP."""
        master, slave = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-c", WATCHING],
            stdin=slave,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        os.close(slave)
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"watching\n"
            os.close(master)
            assert process.wait(timeout=30) == 129
        finally:
            process.kill()
            process.stdout.close()
