"""The queue: which runs wait, which trains, and what became of the others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import ClassVar, Final

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from mlxft.engine.protocol import Stop
from mlxft.errors import MlxftError
from mlxft.queue import entries
from mlxft.queue.entries import Entry, EntryState, Queue
from mlxft.queue.service import (
    Service,
    install,
    is_installed,
    own_service,
    refuse_root,
    uninstall,
)
from mlxft.runs.directory import RunDirectory
from mlxft.text import figures
from mlxft.text.printable import printable_line
from mlxft_tui.frame.confirm import ConfirmDialog
from mlxft_tui.frame.messages import CommandIssued
from mlxft_tui.frame.sheet import Sheet
from mlxft_tui.session import Session
from mlxft_tui.text.cells import shortened
from mlxft_tui.text.theme import MUTED, STATE_LOOKS, StateLook
from mlxft_tui.widgets.line_list import LineList
from mlxft_tui.widgets.notices import inform, show_error
from mlxft_tui.widgets.remappable import with_keys

POLL_SECONDS: Final = 1.0
"""Time between two reads of the queue, which others change too."""

SHOWN_ENDED: Final = 50
"""Latest ended entries that are listed."""

NAME_CELLS: Final = 32
FEWEST_CELLS: Final = 100
"""Narrower lines leave a name less space."""

LOOKS: Final[dict[EntryState, StateLook]] = {
    "waiting": StateLook("◦", "WAITING", "$foreground"),
    "held": StateLook("‖", "HELD", "$warning"),
    "running": STATE_LOOKS["running"],
    "finished": STATE_LOOKS["finished"],
    "stopped": STATE_LOOKS["stopped"],
    "failed": STATE_LOOKS["failed"],
    "lost": STATE_LOOKS["lost"],
}

EMPTY: Final = "Nothing waits; {recipe.enqueue=w} on Recipe ({go.recipe}) adds a run."


class QueueList(LineList):
    """The entries in the order in which they train, then those that have ended."""

    def __init__(self) -> None:
        super().__init__()
        self._entries: tuple[Entry, ...] = ()

    @property
    def chosen(self) -> Entry | None:
        """The entry under the cursor."""
        return self._entries[self.cursor] if self.cursor < len(self._entries) else None

    def show(self, queue: Queue) -> None:
        """Show the queue; the cursor stays on its entry."""
        number = self.chosen.id if self.chosen else None
        self._entries = (*queue.entries, *reversed(queue.ended[-SHOWN_ENDED:]))
        self.count = len(self._entries)
        found = (at for at, each in enumerate(self._entries) if each.id == number)
        self.cursor = next(found, self.cursor)
        self.refresh()

    def line(self, index: int, width: int) -> Content:
        entry = self._entries[index]
        look = LOOKS[entry.state]
        cells = NAME_CELLS if width >= FEWEST_CELLS else NAME_CELLS - 8
        name = Content(shortened(printable_line(entry.directory.name), cells))
        return Content.assemble(
            f"{entry.id:>4}  ",
            (f"{look.symbol} {look.word.lower():<9}", look.style),
            name.truncate(cells, pad=True),
            "  ",
            (_about(entry), MUTED),
        ).truncate(width, ellipsis=True)


class QueueDialog(Sheet[RunDirectory], keys="queue"):
    """Changes the queue at once; enter closes it and follows the run under the cursor."""

    CSS_PATH = "queue_dialog.tcss"
    CLICK_ACCEPTS = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "accept", "Follow", priority=True, tooltip="Show a run that has begun"),
        Binding(
            "K,shift+up",
            "shift(-1)",
            "Move",
            key_display="K J",
            id="earlier",
            tooltip="Start it earlier",
        ),
        Binding(
            "J,shift+down", "shift(1)", "Later", show=False, id="later", tooltip="Start it later"
        ),
        Binding("h", "hold", "Hold", tooltip="Pass it over until it is released, or release it"),
        Binding("H", "hold_all", "All", tooltip="Start nothing until it is released"),
        Binding("n", "run_now", "Now", tooltip="Start it; the run that trains waits behind it"),
        Binding("s", "stop", "Stop", tooltip="Stop the run that trains, saved"),
        Binding("d", "remove", "Remove", tooltip="Remove a waiting run with its folder"),
        Binding(
            "i",
            "install",
            "Install",
            tooltip="Continue the queue after a login or a reboot, or no longer",
        ),
        Binding("escape,q", "cancel", "Close", id="close"),
    ]

    clock: Callable[[], float] = staticmethod(time.time)
    """Seconds of the clock that stamps the queue."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._queue = Queue()
        self._order = asyncio.Lock()
        self._list = QueueList()
        # Kept, since the queue may still be read while the dialog closes and loses its widgets.
        self._frame = Vertical(id="queue")
        self._about = Static(id="about-entry")

    def compose(self) -> ComposeResult:
        with self._frame as dialog:
            dialog.border_title = "queue"
            yield self._list
            yield self._about

    def on_mount(self) -> None:
        self.set_interval(POLL_SECONDS, self._poll)
        self._poll()

    @work(group="queue-poll", exclusive=True)
    async def _poll(self) -> None:
        try:
            queue = await asyncio.to_thread(self._session.queue)
        except MlxftError as error:
            self._refuse(error)
        else:
            self._show(queue)

    def _show(self, queue: Queue) -> None:
        self._queue = queue
        self._list.show(queue)
        self._frame.border_title = "queue, held" if queue.held else "queue"
        self._describe()

    @on(LineList.Moved)
    def _describe(self) -> None:
        entry = self._list.chosen
        about = _details(entry, self.clock()) if entry else with_keys(self, EMPTY)
        self._about.update(Content.styled(about, MUTED))
        self.refresh_bindings()

    def shown(self) -> RunDirectory | None:
        entry = self._list.chosen
        begun = entry is not None and entry.directory.recipe_file.is_file()
        return entry.directory if entry is not None and begun else None

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        entry = self._list.chosen
        match action:
            case "shift" | "hold" | "run_now" | "remove":
                return self.is_open and entry is not None and entry.state in ("waiting", "held")
            case "stop":
                return self.is_open and entry is not None and entry.state == "running"
            case _:
                return super().check_action(action, parameters)

    # Changes

    def action_shift(self, by: int) -> None:
        """Move the entry by a place."""
        if entry := self._list.chosen:
            number = entry.id

            def change(queue: Queue) -> Queue:
                at = next((n for n, each in enumerate(queue.waiting) if each.id == number), 0)
                return entries.moved(queue, number, at + 1 + by)

            self._change(change)

    def action_hold(self) -> None:
        """Hold the entry, or release it."""
        if entry := self._list.chosen:
            changed = entries.released if entry.state == "held" else entries.held
            self._change(lambda queue: changed(queue, [entry.id]))

    def action_hold_all(self) -> None:
        """Hold the whole queue, or release it."""
        changed = entries.released if self._queue.held else entries.held
        self._change(lambda queue: changed(queue, []))

    def action_run_now(self) -> None:
        """Start the entry, after a question if another run would make way."""
        entry, running = self._list.chosen, self._queue.running
        if entry is None:
            return
        number = entry.id

        def start() -> None:
            self._change(lambda queue: entries.urgent(queue, number))

        if running is None:
            start()
            return
        question = (
            f"Start {entry.directory.name} now? {running.directory.name} is stopped and saved, and "
            "continues after it."
        )
        self._ask(question, "Start it", "Let it wait", start)

    def action_stop(self) -> None:
        """Stop the run that trains, after a question."""
        if entry := self._list.chosen:
            stop = CommandIssued(Stop(), entry.directory)
            question = f"Stop {entry.directory.name}? It finishes the step and saves."
            self._ask(question, "Stop and save", "Keep running", lambda: self.post_message(stop))

    def action_remove(self) -> None:
        """Remove the entry, after a question."""
        if entry := self._list.chosen:
            question = f"Remove {entry.directory.name} from the queue?"
            self._ask(question, "Remove", "Keep it", lambda: self._remove(entry))

    def action_install(self) -> None:
        """Have the system start the supervisor, or no longer, after a question."""
        found = own_service()
        try:
            refuse_root()
        except MlxftError as error:
            self._refuse(error)
            return
        files = ", ".join(figures.short_path(path) for path in found.files)
        if is_installed(found):
            question = f"The queue continues after a reboot; delete {files}?"
            self._ask(question, "Delete", "Keep them", lambda: self._install(found, undo=True))
        else:
            question = f"Continue the queue after a login or a reboot? This writes {files}."
            self._ask(question, "Install", "Cancel", lambda: self._install(found, undo=False))

    @work(group="queue")
    async def _install(self, found: Service, *, undo: bool) -> None:
        try:
            await asyncio.to_thread(uninstall if undo else install, found)
        except MlxftError as error:
            self._refuse(error)
        else:
            done = "no longer continues" if undo else "continues"
            inform(self, f"The queue {done} after a login or a reboot.")

    def _ask(self, question: str, yes: str, no: str, then: Callable[[], object]) -> None:
        def answered(confirmed: bool | None) -> None:
            if confirmed:
                then()

        self.app.push_screen(ConfirmDialog(printable_line(question), yes, no), answered)

    @work(group="queue")
    async def _change(self, change: Callable[[Queue], Queue]) -> None:
        await self._changed(lambda: self._session.change_queue(change))

    @work(group="queue")
    async def _remove(self, entry: Entry) -> None:
        await self._changed(lambda: self._session.remove_from_queue(entry))

    async def _changed(self, change: Callable[[], Queue]) -> None:
        """Change the queue in a thread, in the order of the keys."""
        async with self._order:
            try:
                queue = await asyncio.to_thread(change)
            except MlxftError as error:
                self._refuse(error)
            else:
                self._show(queue)

    def _refuse(self, error: MlxftError) -> None:
        show_error(self, error)


def _about(entry: Entry) -> str:
    """What became of it, or where its project is."""
    if entry.ended is not None:
        return printable_line(entry.reason)
    place = printable_line(figures.short_path(entry.directory.path.parent.parent))
    return f"starts at once  {place}" if entry.urgent else place


def _details(entry: Entry, now: float) -> str:
    """Its folder, and when it ended and how."""
    folder = printable_line(figures.short_path(entry.directory.path))
    if entry.ended is None:
        return folder
    age = figures.age(now - entry.ended)
    ago = age if age == "now" else f"{age} ago"
    return f"{folder}  ended {ago}\n{printable_line(entry.reason)}"
