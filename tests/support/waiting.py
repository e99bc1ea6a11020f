"""Waiting for another process, which no event of this one can tell about."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory
from mlxft.runs.journal import JournalReader

T = TypeVar("T")


class RunEndedError(Exception):
    """A run ended instead of training; the message is its own."""


def wait_for_first_step(run: RunDirectory, pause: float = 0.2) -> None:
    """Wait until a run that was launched has trained a step.

    Raises `RunEndedError` where it ends before.
    """
    while True:
        # Asked first, because an engine writes its last event before it lets go of the run.
        live = run.is_live()
        events = JournalReader(run.journal_file).read()
        if any(isinstance(each, ev.StepFinished) for each in events):
            return
        if not live:
            words = [each.message for each in events if isinstance(each, ev.RunFailed)]
            raise RunEndedError(words[-1] if words else f"{run.log_file} may say why it ended.")
        time.sleep(pause)


def eventually(look: Callable[[], T], seconds: float = 60.0) -> T:
    """Look again and again until something true is seen, and return it.

    Raises `AssertionError` when it is not in time.
    """
    end = time.monotonic() + seconds
    while not (seen := look()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s")
        time.sleep(0.02)
    return seen
