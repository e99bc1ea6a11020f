"""The doctor in the app: it reads the machine, and its self-test runs whatever screen is shown."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from mlxft.errors import MlxftError
from mlxft_tui.terminal.described import of_app
from mlxft_tui.widgets.notices import SENTENCE_SECONDS, inform
from mlxft_tui.widgets.remappable import with_keys

if TYPE_CHECKING:
    from mlxft.doctor.self_test.watch import Progress
    from mlxft_tui.app.context import Context
    from mlxft_tui.doctor.dialog import DoctorDialog, DoctorState


class Doctor:
    """Shows the machine's findings and follows the one self-test at a time."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._state: DoctorState | None = None
        self._dialog: DoctorDialog | None = None
        self._cancelled = threading.Event()

    @property
    def running(self) -> bool:
        """Whether a self-test is running."""
        return self._state is not None and self._state.running

    def open(self) -> None:
        """Show the dialog and read the machine again."""
        from mlxft_tui.doctor.dialog import DoctorDialog, DoctorState

        if self._dialog is None:
            hosts = self._context.session.edits.recipe.hosts
            known = self._state or DoctorState()
            self._state = replace(known, report=None, machines=None, asks_machines=hosts != 1)
            self._dialog = DoctorDialog(self._state, self._start, self._cancel)
            self._context.app.push_screen(self._dialog, self._closed)
            self._context.run_in_background(self._examine, group="doctor")

    def close(self) -> None:
        """Cancel a self-test; the app ends."""
        self._cancelled.set()

    async def _examine(self) -> None:
        session, size = self._context.session, self._context.app.size
        terminal = await asyncio.to_thread(of_app, size.width, size.height)
        self._change(report=await asyncio.to_thread(session.examined, terminal))
        machines = await asyncio.to_thread(session.examined_machines)
        self._change(machines=machines, asks_machines=False)

    def _start(self) -> None:
        self._cancelled.clear()
        self._change(
            running=True, cancelling=False, problem="", progress=None, parts=(), found=None
        )
        self._context.run_in_background(self._test, group="self-test")

    def _cancel(self) -> None:
        self._cancelled.set()
        self._change(cancelling=True)

    async def _test(self) -> None:
        from mlxft.doctor.self_test.plan import SECONDS
        from mlxft.doctor.self_test.watch import CancelledError, Watch
        from mlxft.text.figures import short_path

        loop = asyncio.get_running_loop()

        def report(progress: Progress) -> None:
            loop.call_soon_threadsafe(self._take, progress)

        watch = Watch(SECONDS, report, self._cancelled.is_set)
        try:
            found, file = await asyncio.to_thread(self._context.session.self_tested, watch)
        except CancelledError:
            self._end(problem="The self-test was cancelled; nothing of it is left.")
        except MlxftError as error:
            self._end(problem=str(error))
        else:
            self._end(found=found, file=short_path(file))

    def _take(self, progress: Progress) -> None:
        if self._state is not None and self._state.running:
            self._change_to(self._state.after(progress))

    def _change(self, **changes: object) -> None:
        if self._state is not None:
            self._change_to(replace(self._state, **changes))  # type: ignore[arg-type]

    def _change_to(self, state: DoctorState) -> None:
        self._state = state
        if self._dialog is not None:
            self._dialog.show(state)

    def _end(self, **result: object) -> None:
        """Show the result in the open dialog, or else say that there is one."""
        self._change(running=False, cancelling=False, **result)
        if self._dialog is None:
            text = with_keys(self._context.app, "The self-test has ended; {app.doctor} shows it.")
            inform(self._context.app, text, seconds=SENTENCE_SECONDS)

    def _closed(self, _: object) -> None:
        self._dialog = None
