"""What a run's journal says of its sessions since the queue started it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory
from mlxft.runs.events import AnyEvent
from mlxft.runs.journal import JournalReader


@dataclass(frozen=True, kw_only=True)
class Sessions:
    """The sessions of a run after an event of its journal; the last one where it ended."""

    started: int = 0
    """How many engines have begun."""
    step: int = 0
    ending: ev.RunFinished | ev.RunFailed | None = None
    """How the last session ended; None if it hasn't, or its engine died."""


def sessions_after(directory: RunDirectory, seq: int) -> Sessions:
    """The sessions whose events follow the one with this number."""
    found = Sessions()
    for events in JournalReader(directory.journal_file).batches():
        for event in events:
            if event.seq > seq:
                found = _with(found, event)
    return found


def _with(found: Sessions, event: AnyEvent) -> Sessions:
    match event:
        case ev.RunStarted():
            return replace(found, started=found.started + 1, step=event.start_step, ending=None)
        case ev.StepFinished():
            return replace(found, step=event.step)
        case ev.RunFinished() | ev.RunFailed():
            return replace(found, ending=event)
        case _:
            return found
