"""How a process beside a run says something in its journal."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import IO

from mlxft.errors import MlxftError
from mlxft.runs import events as ev
from mlxft.runs import lock
from mlxft.runs.directory import RunDirectory
from mlxft.runs.journal import JournalWriter
from mlxft.text.printable import printable_line

PATIENCE = 10.0
"""Seconds to wait for a run's lock, which viewers take for moments."""


class Voice:
    """Has the engine write warnings, each once; after its end it writes them itself.

    Whoever holds a run's lock writes its journal, so a run that has been resumed meanwhile stays
    untouched.
    """

    def __init__(self, directory: RunDirectory, engine: IO[str]) -> None:
        self._directory = directory
        self._engine = engine
        self._said: set[str] = set()
        self.engine_has_ended = False

    def say(self, message: str) -> None:
        """Say one sentence."""
        line = printable_line(message)
        if line in self._said:
            return
        self._said.add(line)
        print(line, file=sys.stderr, flush=True)
        if not self.engine_has_ended:
            try:
                print(line, file=self._engine, flush=True)
                return
            except OSError:
                self.engine_has_ended = True
        with contextlib.suppress(MlxftError, OSError):
            self._write(line)

    def _write(self, line: str) -> None:
        if not self._directory.journal_file.is_file():
            return  # The run was deleted.
        with lock.taken(self._directory.lock_file, str(os.getpid()), patience=PATIENCE) as held:
            if held is None:
                return
            with contextlib.closing(JournalWriter(self._directory.journal_file)) as journal:
                journal.append(ev.Warned(message=line))


def own_output() -> IO[str]:
    """The pipe to the engine, out of reach of libraries, which print to the log from now on."""
    engine = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace")
    os.dup2(2, 1)
    return engine
