"""The events of one session of a run, until it ends in whatever way."""

from __future__ import annotations

from collections.abc import Iterator

from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory
from mlxft.runs.events import AnyEvent
from mlxft.runs.journal import JournalReader


class SessionReader:
    """Reads what an engine appends to its journal after the event number `after`."""

    def __init__(self, directory: RunDirectory, after: int) -> None:
        self._directory = directory
        self._after = after
        self._reader = JournalReader(directory.journal_file)
        self.started: ev.RunStarted | None = None
        self.ending: ev.RunFinished | ev.RunFailed | None = None
        self.has_ended = False
        """Whether the session has ended: by its last event, by its engine's death, or by the next
        one."""

    def events(self) -> Iterator[AnyEvent]:
        """What is new, read in batches, so that a long journal needs little memory."""
        # The lock is read before the journal: an engine writes its last event, then releases it.
        live = self._directory.is_live()
        for batch in self._reader.batches():
            for event in batch:
                if event.seq > self._after and not self.has_ended:
                    yield from self._own(event)
        self.has_ended = self.has_ended or not live

    def _own(self, event: AnyEvent) -> Iterator[AnyEvent]:
        match event:
            case ev.RunStarted() if self.started is not None:
                self.has_ended = True
                return
            case ev.RunStarted():
                self.started = event
            case ev.RunFinished() | ev.RunFailed():
                self.ending, self.has_ended = event, True
        yield event
