"""What a run's journal says of its sessions since the queue started it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory
from mlxft.runs.events import AnyEvent
from mlxft.runs.journal import JournalReader

FULL_SHARE: Final = 0.95
"""Of the machine's memory in use, from which a killed engine has probably run out of it."""

LESS_MEMORY: Final = 0.8
"""Of the last session's peak or limit, what the next one may use."""


@dataclass(frozen=True, kw_only=True)
class Sessions:
    """The sessions of a run after an event of its journal; the last one where it ended."""

    last_seq: int = 0
    started: int = 0
    """How many engines have begun."""
    step: int = 0
    saved_step: int = 0
    """The latest checkpoint's step."""
    ending: ev.RunFinished | ev.RunFailed | None = None
    """How the last session ended; None if it hasn't, or its engine died."""
    machine: ev.MachineSampled | None = None
    """The last sample of the last session."""

    @property
    def has_crashed(self) -> bool:
        """Whether the last session ended as none should: its engine died, or memory was short.

        Asked of a run without a live engine.
        """
        if isinstance(self.ending, ev.RunFailed):
            return self.ending.cause == "out_of_memory"
        return self.ending is None and self.started > 0

    @property
    def memory_was_short(self) -> bool:
        """Whether the last session ran out of memory, as far as anybody can know."""
        if isinstance(self.ending, ev.RunFailed):
            return self.ending.cause == "out_of_memory"
        if self.machine is None:
            return False
        sample = self.machine.sample
        if sample.memory_pressure == "critical":
            return True
        used, total = sample.memory_used, sample.memory_total
        return bool(used and total and used > FULL_SHARE * total)

    def next_memory_limit(self, limit: int | None) -> int | None:
        """What MLX should stay below next, in bytes, after a session with this limit."""
        if not self.memory_was_short:
            return limit
        peak = self.machine.peak_memory if self.machine else None
        known = [each for each in (limit, peak) if each]
        return int(LESS_MEMORY * min(known)) if known else None


def sessions_after(directory: RunDirectory, seq: int) -> Sessions:
    """The sessions whose events follow the one with this number."""
    found = Sessions(last_seq=seq)
    for events in JournalReader(directory.journal_file).batches():
        for event in events:
            if event.seq > seq:
                found = _with(found, event)
    return found


def _with(found: Sessions, event: AnyEvent) -> Sessions:
    found = replace(found, last_seq=event.seq)
    match event:
        case ev.RunStarted():
            return replace(
                found,
                started=found.started + 1,
                step=event.start_step,
                saved_step=event.start_step,
                ending=None,
                machine=None,
            )
        case ev.StepFinished():
            return replace(found, step=event.step)
        case ev.CheckpointSaved():
            return replace(found, saved_step=event.step)
        case ev.MachineSampled():
            return replace(found, machine=event)
        case ev.RunFinished() | ev.RunFailed():
            return replace(found, ending=event)
        case _:
            return found
