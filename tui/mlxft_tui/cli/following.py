"""A run's events printed as they come, and commands sent to its engine."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

from mlxft.engine import address
from mlxft.engine.protocol import AnyCommand, Stop
from mlxft.errors import EngineError, RunError
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory
from mlxft.runs.events import AnyEvent
from mlxft.runs.followed import FollowedRun, read_run
from mlxft.runs.journal import JournalReader
from mlxft_tui.cli.status import StatusLine
from mlxft_tui.terminal import invocation
from mlxft_tui.text import event_text

POLL_SECONDS = 0.1
"""Time between two reads of a journal."""

INTERRUPTED = 130
"""The exit status of a command ended by ctrl-c."""

Show = Callable[[AnyEvent], None]
Ending = ev.RunFinished | ev.RunFailed


def watch(
    directory: RunDirectory,
    reader: JournalReader,
    *,
    as_json: bool,
    launch: Callable[[], None] | None = None,
) -> int:
    """Print events until the run ends; returns the exit status.

    Ctrl-c stops a run that `launch` has started, and only detaches from another. Raises
    `RunError` if the run fails or its engine dies; only as JSON is the failure an event as well.
    """
    with StatusLine() as status, _interrupts() as interrupts:
        if launch:
            launch()
        show = _print_json if as_json else _without_last_failure(status.show)
        stopping = False
        for ending in _follow(reader, directory, show):
            if ending is not None:
                return _exit_status(directory, ending, interrupted=stopping)
            if len(interrupts) > (1 if launch else 0):
                attach = invocation.of_run("attach", directory.path)
                status.say(f"{directory.name} keeps running; {attach} returns to it")
                return INTERRUPTED
            if interrupts and not stopping:
                stopping = True
                status.say("stopping after this step and saving; ctrl-c again detaches instead")
                with contextlib.suppress(EngineError):
                    send(directory, Stop())
    raise RunError(_lost(directory))


def _without_last_failure(show: Show) -> Show:
    """Show a failure only once the run has been resumed: the last one is the command's error."""
    failures: list[ev.RunFailed] = []

    def show_later(event: AnyEvent) -> None:
        if isinstance(event, ev.RunFailed):
            failures.append(event)
            return
        while failures:
            show(failures.pop(0))
        show(event)

    return show_later


def await_start(directory: RunDirectory, reader: JournalReader, launch: Callable[[], None]) -> None:
    """Start a run, and show on stderr how far that is, until it works on its first step.

    Ctrl-c leaves it to itself. Raises `RunError` if the run fails before that, or its engine dies.
    """
    begun: list[AnyEvent] = []
    with StatusLine() as status, _interrupts() as interrupts:
        launch()

        def show(event: AnyEvent) -> None:
            if isinstance(event, ev.ProgressMade):
                status.progress(event)
            if isinstance(event, _BEGUN) or _is_work(event):
                begun.append(event)

        for ending in _follow(reader, directory, show):
            if isinstance(ending, ev.RunFailed):
                raise RunError(ending.message)
            if begun or interrupts:
                return
    raise RunError(_lost(directory))


_BEGUN: Final = (ev.StepFinished, ev.ValidationFinished, ev.RunPaused, ev.RunFinished)
"""Events after which nothing of a run's start can fail any more."""


def _is_work(event: AnyEvent) -> bool:
    """Whether an event says that the model is loaded and checked."""
    return isinstance(event, ev.ProgressMade) and event.stage in ("validating", "sampling")


def print_until(directory: RunDirectory, before: FollowedRun, kind: type[AnyEvent]) -> int:
    """Print the event that confirms a command, or the run's end, whichever comes first.

    Returns 0 for the confirmation. Raises `RunError` if the engine dies.
    """
    seen = before.view.log[-1].seq if before.view.log else 0
    found: list[AnyEvent] = []

    def show(event: AnyEvent) -> None:
        if event.seq > seen and isinstance(event, (kind, ev.RunFinished, ev.RunFailed)):
            found.append(event)

    for _ in _follow(JournalReader(directory.journal_file), directory, show):
        if found:
            print(event_text.line(found[0]))
            return 0 if isinstance(found[0], kind) else 1
    raise RunError(_lost(directory))


def send(directory: RunDirectory, command: AnyCommand) -> None:
    """Send a command to a run's engine. Raises `EngineError`."""

    async def connect_and_send() -> None:
        client = await address.connect(directory)
        try:
            await client.send(command)
        finally:
            await client.close()

    asyncio.run(connect_and_send())


def _follow(reader: JournalReader, directory: RunDirectory, show: Show) -> Iterator[Ending | None]:
    """Show a run's events; yields None between two reads, then its ending if it has one."""
    ending: Ending | None = None
    while True:
        # Checked before reading: an engine writes its last event before it releases the lock.
        live = directory.is_live()
        for event in reader.read():
            show(event)
            if isinstance(event, ev.RunStarted):
                ending = None
            if isinstance(event, ev.RunFinished | ev.RunFailed):
                ending = event
        if not live:
            if ending is not None:
                yield ending
            return
        yield None
        time.sleep(POLL_SECONDS)


def _exit_status(directory: RunDirectory, ending: Ending, *, interrupted: bool) -> int:
    if isinstance(ending, ev.RunFailed):
        where = f"{directory.name} failed at step {ending.step}: " if ending.step else ""
        raise RunError(where + ending.message)
    if interrupted:
        resume = invocation.of_run("resume", directory.path)
        print(f"saved; {resume} continues", file=sys.stderr)
        return INTERRUPTED
    return 0


def _lost(directory: RunDirectory) -> str:
    checkpoints = read_run(directory).view.checkpoints
    where = f"from step {checkpoints[-1].step}" if checkpoints else "from the start"
    resume = invocation.of_run("resume", directory.path)
    return (
        f"{directory.name}: its engine died without reporting an error; "
        f"{resume} continues {where}, and "
        f"{directory.log_file} may show why."
    )


@contextlib.contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Collect each ctrl-c instead of raising `KeyboardInterrupt` in the middle of a line."""
    seen: list[int] = []

    def count(number: int, _: FrameType | None) -> None:
        seen.append(number)

    before = signal.signal(signal.SIGINT, count)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)


def _print_json(event: AnyEvent) -> None:
    print(ev.encode(event).decode(), flush=True)
