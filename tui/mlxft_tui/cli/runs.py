"""The commands that need no terminal: runs started, watched, steered and listed line by line."""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

import msgspec

from mlxft.conversation.messages import Message, Question
from mlxft.data.dataset import require_trainable
from mlxft.engine.client import EngineClient
from mlxft.engine.machine import refuse_if_training
from mlxft.engine.protocol import (
    AnyCommand,
    AnyReply,
    Chat,
    Continue,
    ModelOpened,
    OpenModel,
    Pause,
    Progressed,
    Stop,
    TextGenerated,
)
from mlxft.errors import EngineError, RecipeError, RunError
from mlxft.recipe import Recipe
from mlxft.runs import events as ev
from mlxft.runs import registry
from mlxft.runs.directory import RunDirectory
from mlxft.runs.events import AnyEvent
from mlxft.runs.journal import JournalReader
from mlxft.runs.smoothing import latest_loss
from mlxft.text import figures
from mlxft.text.printable import printable, printable_line
from mlxft_tui.session import Session
from mlxft_tui.terminal import invocation
from mlxft_tui.text import event_text
from mlxft_tui.text.progress import Progress

LOOK_SECONDS = 0.1
"""Time between two looks at a journal."""

INTERRUPTED = 130
"""The exit status of a command ended by ctrl-c."""

Show = Callable[[AnyEvent], None]
Ending = ev.RunFinished | ev.RunFailed


def train(session: Session, recipe: Recipe, *, as_json: bool, detach: bool) -> int:
    """Start a run and print its events until it ends; with `detach` leave it to itself."""
    if not recipe.model:
        raise RecipeError("The recipe names no model; add one, or --set model=demo.")
    refuse_if_training()
    session.fetch_data(recipe)
    require_trainable(session.data(recipe), recipe)
    directory = session.new_run(recipe)
    return _launch(session, directory, as_json=as_json, detach=detach)


def attach(directory: RunDirectory, *, as_json: bool) -> int:
    """Print a run's events from its first on; a run that is at work is followed to its end."""
    return _watch(directory, JournalReader(directory.journal_file), as_json=as_json)


def resume(session: Session, directory: RunDirectory, *, as_json: bool, detach: bool) -> int:
    """Let a paused run go on; start an engine again on one that has ended before its time."""
    found = registry.summarize(directory)
    if found.state == "paused":
        _send(directory, Continue())
        return _report_until(directory, found, ev.RunContinued)
    if found.live:
        raise RunError(f"{directory.name}: this run is at work already; attach to it instead.")
    if found.state == "finished":
        raise RunError(f"{directory.name}: this run has finished; there is nothing left to train.")
    return _launch(session, directory, as_json=as_json, detach=detach)


def stop(directory: RunDirectory) -> int:
    """End a run after its step, saved, and wait for that."""
    found = _live(directory)
    _send(directory, Stop())
    return _report_until(directory, found, ev.RunFinished)


def pause(directory: RunDirectory) -> int:
    """Make a run wait after its step."""
    found = _live(directory)
    if found.state == "paused":
        raise RunError(f"{directory.name}: this run is paused already.")
    _send(directory, Pause())
    return _report_until(directory, found, ev.RunPaused)


def runs(root: Path, *, as_json: bool) -> int:
    """List a project's runs, those at work first."""
    found = registry.runs(root)
    if as_json:
        rows = [_run_mapping(each) for each in found]
        print(msgspec.json.format(msgspec.json.encode(rows), indent=1).decode())
    elif not found:
        print(f"no runs in {root}; {invocation.command('demo')} makes one")
    else:
        _print_runs(found)
    return 0


Wanted: TypeAlias = "AnyCommand | Callable[[ModelOpened], AnyCommand]"
"""What a model service is to do, or what makes that of the model it has opened."""


def chat(
    session: Session,
    model: str,
    adapter: RunDirectory | None,
    messages: tuple[Message, ...],
    given: Mapping[str, Any],
    *,
    trust_remote_code: bool,
) -> int:
    """Answer one prompt on stdout, with a model as it is or with a run's adapter.

    `given` are fields of the sampling; the others are as the model's makers advise.
    """

    def command(opened: ModelOpened) -> Chat:
        sampling = msgspec.structs.replace(opened.sampling, **given)
        question = Question(messages, sampling, use_adapter=adapter is not None)
        return Chat(question, str(adapter.path.resolve()) if adapter else None)

    def take(reply: AnyReply) -> None:
        if isinstance(reply, TextGenerated):
            text = printable(reply.text) if sys.stdout.isatty() else reply.text
            print(text, end="", flush=True)

    status = ask_service(session, OpenModel(model, trust_remote_code), command, take)
    if status == 0:
        print()
    return status


def ask_service(
    session: Session,
    opening: OpenModel,
    command: Wanted,
    take: Callable[[AnyReply], None],
    *,
    in_lines: bool = False,
) -> int:
    """Have a model service open a model and follow one command; returns the exit status.

    `take` gets the command's replies but for its progress, which is shown on a terminal, and
    `in_lines` elsewhere too. Raises `EngineError`.
    """
    try:
        asyncio.run(_ask_service(session, opening, command, take, _Status(in_lines=in_lines)))
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


# Following a run


def _launch(session: Session, directory: RunDirectory, *, as_json: bool, detach: bool) -> int:
    """Start an engine on a run and print what it does from now on."""
    if detach:
        session.launch(directory)
        return _detached(directory, as_json)
    reader = JournalReader(directory.journal_file)
    reader.read()
    return _watch(directory, reader, as_json=as_json, launch=lambda: session.launch(directory))


def _watch(
    directory: RunDirectory,
    reader: JournalReader,
    *,
    as_json: bool,
    launch: Callable[[], None] | None = None,
) -> int:
    """Print events until the run ends. Ctrl-c stops a run that was launched here, and only leaves
    another.
    """
    with _Status() as status, _interrupts() as interrupts:
        if launch:
            launch()
        show = _print_json if as_json else status.show
        stopping = False
        for ending in _follow(reader, directory, show):
            if ending is not None:
                return _exit_status(directory, ending, interrupted=stopping)
            if len(interrupts) > (1 if launch else 0):
                back = invocation.command("attach")
                status.say(f"{directory.name} goes on; {back} returns to it")
                return INTERRUPTED
            if interrupts and not stopping:
                stopping = True
                status.say("stopping after this step and saving; ctrl-c again leaves it at work")
                with contextlib.suppress(EngineError):
                    _send(directory, Stop())
    raise RunError(_lost(directory))


def _follow(reader: JournalReader, directory: RunDirectory, show: Show) -> Iterator[Ending | None]:
    """Show a run's events; yields None between two looks and at last its ending, if it has one."""
    ending: Ending | None = None
    while True:
        # Asked first, because an engine writes its last event before it lets go of the run.
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
        time.sleep(LOOK_SECONDS)


def _exit_status(directory: RunDirectory, ending: Ending, *, interrupted: bool) -> int:
    if isinstance(ending, ev.RunFailed):
        raise RunError(ending.message)
    if interrupted:
        again = invocation.command(f"resume {directory.name}")
        print(f"saved; {again} goes on", file=sys.stderr)
        return INTERRUPTED
    return 0


def _lost(directory: RunDirectory) -> str:
    checkpoints = registry.read_view(directory).checkpoints
    where = f"from step {checkpoints[-1].step}" if checkpoints else "from the start"
    return (
        f"{directory.name}: its engine has died without a word; "
        f"{invocation.command(f'resume {directory.name}')} goes on {where}, and "
        f"{directory.log_file} may say why."
    )


def _report_until(
    directory: RunDirectory, before: registry.RunSummary, kind: type[AnyEvent]
) -> int:
    """Print the event that confirms a command, or the ending that came instead of it."""
    seen = before.view.log[-1].seq if before.view.log else 0
    confirmed: list[AnyEvent] = []

    def look(event: AnyEvent) -> None:
        if event.seq > seen and isinstance(event, (kind, ev.RunFinished, ev.RunFailed)):
            confirmed.append(event)

    for _ in _follow(JournalReader(directory.journal_file), directory, look):
        if confirmed:
            print(event_text.line(confirmed[0]))
            return 0 if isinstance(confirmed[0], kind) else 1
    raise RunError(_lost(directory))


def _live(directory: RunDirectory) -> registry.RunSummary:
    found = registry.summarize(directory)
    if not found.live:
        raise RunError(f"{directory.name}: no engine is at work on this run ({found.state}).")
    return found


def _send(directory: RunDirectory, command: AnyCommand) -> None:
    async def send() -> None:
        client = await EngineClient.connect(directory.socket_file)
        try:
            await client.send(command)
        finally:
            await client.close()

    asyncio.run(send())


@contextlib.contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Count each ctrl-c instead of breaking off in the middle of a line."""
    seen: list[int] = []

    def count(number: int, _: FrameType | None) -> None:
        seen.append(number)

    before = signal.signal(signal.SIGINT, count)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)


# Printing


def _print_json(event: AnyEvent) -> None:
    print(ev.encode(event).decode(), flush=True)


def _detached(directory: RunDirectory, as_json: bool) -> int:
    if as_json:
        row = {"run": directory.name, "path": str(directory.path)}
        print(msgspec.json.encode(row).decode())
    else:
        follow = invocation.command(f"attach {directory.name}")
        print(f"{directory.name} trains; {follow} follows it")
    return 0


LINE_SECONDS = 5.0
"""Time between two lines about the same stage where there is no terminal to rewrite one in."""


class _Status:
    """Lines on stdout, and on stderr how far something long has come.

    That is one line, rewritten below the others, on a terminal; elsewhere it is left out unless it
    shall be told `in_lines`.
    """

    def __init__(self, *, in_lines: bool = False) -> None:
        self._shown = sys.stderr.isatty()
        self._in_lines = in_lines and not self._shown
        self._progress = Progress()
        self._told = ("", -math.inf)
        """The last stage that was told in a line, and when."""

    def __enter__(self) -> _Status:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def show(self, event: AnyEvent) -> None:
        """Print an event's line, or show the progress it tells of."""
        text = event_text.line(event)
        if text is not None:
            self.clear()
            print(text, flush=True)
        elif isinstance(event, ev.ProgressMade):
            self.progress(event)

    def progress(self, progress: ev.ProgressMade) -> None:
        """Show how far something has come until the next line."""
        now = time.monotonic()
        text = self._progress.describe(progress, now)
        self._transient(text)
        stage, at = self._told
        if self._in_lines and (progress.stage != stage or now - at >= LINE_SECONDS):
            self._told = progress.stage, now
            self.say(f"{text} {progress.note}".strip())

    def say(self, text: str) -> None:
        """A line that is no event's, on stderr."""
        self.clear()
        print(printable_line(text), file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Make way for other output."""
        self._transient("")

    def _transient(self, text: str) -> None:
        if self._shown:
            print(f"\r\x1b[K{printable_line(text)}", end="", file=sys.stderr, flush=True)


def _run_mapping(found: registry.RunSummary) -> dict[str, object]:
    view, started = found.view, found.view.started
    validations = view.validations
    return {
        "run": found.directory.name,
        "path": str(found.directory.path),
        "state": found.state,
        "model": started.recipe.get("model") if started else None,
        "step": view.step,
        "iters": view.iters,
        "loss": latest_loss(view.steps),
        "validation_loss": validations[-1].loss if validations else None,
        "last_time": view.last_time,
    }


def _print_runs(found: list[registry.RunSummary]) -> None:
    width = max(len(each.directory.name) for each in found)
    for each in found:
        view = each.view
        loss = figures.loss(latest_loss(view.steps))
        age = figures.age(time.time() - view.last_time) if view.last_time else figures.NONE
        print(
            f"{printable_line(each.directory.name):<{width}}  {each.state:<8}  "
            f"{view.step:>6}/{view.iters:<6}  loss {loss}  {age}"
        )


# The model service


async def _ask_service(
    session: Session,
    opening: OpenModel,
    command: Wanted,
    take: Callable[[AnyReply], None],
    showing: _Status,
) -> None:
    with showing as status:
        try:
            client = await session.service()
            async for reply in client.stream(opening):
                if isinstance(reply, Progressed):
                    status.progress(reply.progress)
                elif isinstance(reply, ModelOpened) and callable(command):
                    command = command(reply)
            assert not callable(command)
            async for reply in client.stream(command):
                if isinstance(reply, Progressed):
                    status.progress(reply.progress)
                else:
                    status.clear()
                    take(reply)
        finally:
            await session.close()
