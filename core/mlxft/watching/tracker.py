"""Reports one session of a run to one service."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from mlxft.errors import StorageError
from mlxft.runs import events as ev
from mlxft.runs import lock
from mlxft.runs.directory import RunDirectory
from mlxft.storage.atomic_files import write_atomically
from mlxft.storage.regular_files import read_regular
from mlxft.watching.figures import Figures, Point, configuration, summary_of
from mlxft.watching.services import SERVICES, Reported, Service, State
from mlxft.watching.session_reader import SessionReader
from mlxft.watching.voice import Voice

POLL_SECONDS: Final = 1.0

CALL_SECONDS: Final = 120.0
"""How long a service may take for one call before it is given up."""

UPLOAD_SECONDS: Final = 600.0
"""How long it may take for its last one, which uploads the rest."""

BATCH: Final = 100
"""Points that are reported at once where many wait."""

PROJECT: Final = "mlxft-tui"


class Reports(msgspec.Struct):
    """What a service has of a run: its id there, and the last steps, -1 for none."""

    id: str
    train: int = -1
    validation: int = -1
    sample: int = -1

    @property
    def last(self) -> int:
        """The last step of any kind."""
        return max(self.train, self.validation, self.sample)

    def rewind(self, step: int) -> None:
        """Forget what comes after a step."""
        self.train, self.validation, self.sample = (
            min(each, step) for each in (self.train, self.validation, self.sample)
        )


class Tracker:
    """Follows a session's journal and reports what is new, until the session has ended.

    The journal is the queue between engine and service: it loses nothing, however slow the service
    is. A service's run begins with the session's first step, so that a failed start leaves none.
    """

    def __init__(
        self,
        name: str,
        directory: RunDirectory,
        after: int,
        voice: Voice,
        give_up: Callable[[], None],
        *,
        call_seconds: float = CALL_SECONDS,
    ) -> None:
        """`give_up` is called in another thread while the service hangs."""
        self._name = name
        self._directory = directory
        self._reader = SessionReader(directory, after)
        self._voice = voice
        self._service: Service = SERVICES[name]()
        self._call_seconds = call_seconds
        self._limit = _TimeLimit(lambda: self._hangs(give_up))
        self._figures = Figures()
        self._waiting: list[Point] = []
        """Points that the service doesn't have yet."""
        self._reports: Reports | None = None
        """None until the service's run has begun."""

    def run(self) -> None:
        """Report until the session has ended."""
        with contextlib.ExitStack() as held:
            try:
                while not self._reader.has_ended:
                    self._read(held)
                    if not self._reader.has_ended:
                        time.sleep(POLL_SECONDS)
                self._voice.engine_has_ended = True
                if self._reports is not None:
                    self._end()
            except Exception as error:  # Each service raises its own errors.
                if self._directory.path.is_dir():
                    self._voice.say(self._loss(_reason(error)))

    def _read(self, held: contextlib.ExitStack) -> None:
        for event in self._reader.events():
            if (point := self._figures.add(event)) is not None:
                self._waiting.append(point)
            if self._reports is None and isinstance(event, ev.StepFinished):
                self._reports = self._begin(held)
            if self._reports is not None and len(self._waiting) >= BATCH:
                self._report(self._reports)
        if self._reports is not None and self._waiting:
            self._report(self._reports)

    def _begin(self, held: contextlib.ExitStack) -> Reports:
        """Begin or continue the service's run, after the session before has been reported."""
        started = self._reader.started
        assert started is not None
        file = self._directory.watching / f"{self._name}.lock"
        patience = UPLOAD_SECONDS + self._call_seconds
        if held.enter_context(lock.taken(file, patience=patience)) is None:
            raise StorageError("the session before is still being reported")
        earlier = self._saved()
        reports = earlier or Reports(uuid.uuid4().hex[:21])
        if self._service.rewinds:
            reports.rewind(started.start_step)
        self._save(reports)
        run = Reported(
            id=reports.id,
            name=self._directory.name,
            project=started.recipe.get("project_name") or PROJECT,
            folder=self._directory.path,
            config=configuration(started),
            is_resumed=earlier is not None,
            first_step=started.start_step,
        )
        with self._limit.of(self._call_seconds):
            note = self._service.start(run)
        if note is not None:
            self._voice.say(note)
        return reports

    def _report(self, reports: Reports) -> None:
        """Report what waits and the service doesn't have from before a resume."""
        with self._limit.of(self._call_seconds):
            for point in self._waiting:
                if point.step <= getattr(reports, point.kind):
                    continue
                if point.kind == "sample":
                    self._service.log_text(point.step, point.text)
                else:
                    self._service.log(point.step, point.figures)
                setattr(reports, point.kind, point.step)
            self._service.flush()
        self._waiting.clear()
        self._save(reports)

    def _end(self) -> None:
        state, message = _end_state(self._reader.ending)
        with self._limit.of(UPLOAD_SECONDS):
            self._service.end(state, message, summary_of(self._reader.ending))

    def _saved(self) -> Reports | None:
        with contextlib.suppress(OSError, msgspec.DecodeError):
            return msgspec.json.decode(read_regular(self._state_file), type=Reports)
        return None

    def _save(self, reports: Reports) -> None:
        write_atomically(self._state_file, msgspec.json.encode(reports), durable=False)

    @property
    def _state_file(self) -> Path:
        return self._directory.watching / f"{self._name}.json"

    def _hangs(self, give_up: Callable[[], None]) -> None:
        self._voice.say(self._loss("it doesn't answer"))
        give_up()

    def _loss(self, reason: str) -> str:
        """What a service that has failed doesn't get."""
        last = self._reports.last if self._reports else -1
        after = f"after step {last}" if last >= 0 else "of this session"
        log = self._directory.watching / f"{self._name}.log"
        return f"{self._name} gets nothing {after} ({reason}); {log} has more."


def _end_state(ending: ev.RunFinished | ev.RunFailed | None) -> tuple[State, str]:
    match ending:
        case ev.RunFinished(ends_round=True, step=step):
            return "finished", f"The sweep's round ends after step {step}."
        case ev.RunFinished(reason="stopped"):
            return "stopped", "The run was stopped."
        case ev.RunFinished():
            return "finished", ""
        case ev.RunFailed(message=message):
            return "failed", message
        case None:
            return "failed", "The engine was killed."


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


class _TimeLimit:
    """Calls something from a thread of its own if a block takes too long."""

    def __init__(self, on_expiry: Callable[[], None]) -> None:
        self._on_expiry = on_expiry

    @contextmanager
    def of(self, seconds: float) -> Iterator[None]:
        timer = threading.Timer(seconds, self._on_expiry)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
