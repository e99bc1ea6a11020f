"""The project's export: it runs in a process of its own, whatever screen is shown."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from mlxft.engine.machine import refuse_if_training
from mlxft.engine.protocol import AnyReply, CancelChat, ExportFinished, OpenModel, Progressed
from mlxft.errors import MlxftError, RunError, StorageError
from mlxft.text.printable import printable_line
from mlxft_tui.text.progress import Progress
from mlxft_tui.widgets.notices import SENTENCE_SECONDS, inform, show_error
from mlxft_tui.widgets.remappable import with_keys

if TYPE_CHECKING:
    from mlxft.engine.client import EngineClient
    from mlxft.export.offer import Offer
    from mlxft.export.types import Choice
    from mlxft.runs.followed import FollowedRun
    from mlxft_tui.app.context import Context
    from mlxft_tui.export.report import ExportReport, ExportState


class Exports:
    """Asks what to export, follows the one export at a time, and shows what was measured."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._state: ExportState | None = None
        self._report: ExportReport | None = None
        self._client: EngineClient | None = None

    @property
    def running(self) -> str:
        """The name of the run that is being exported, or empty."""
        return self._state.name if self._state and self._state.running else ""

    def request(self, run: FollowedRun) -> None:
        """Ask what to export of a run, or show the export that is running or unseen."""
        if self._state is not None:
            self._show()
        else:
            self._context.run_in_background(partial(self._ask, run), group="export-offer")

    async def _ask(self, run: FollowedRun) -> None:
        from mlxft_tui.export.dialog import ExportDialog

        session = self._context.session
        try:
            offer = await asyncio.to_thread(self._offer, run)
        except MlxftError as error:
            self._context.show_error(error)
            return
        dialog = ExportDialog(offer, session.folder)
        self._context.app.push_screen(dialog, partial(self._start, offer))

    def _offer(self, run: FollowedRun) -> Offer:
        from mlxft.export.offer import offer_of

        session = self._context.session
        try:
            refuse_if_training(session.adapters)
            busy = False
        except RunError:
            busy = True
        except StorageError:
            busy = False  # No run has the lock that is kept there.
        return offer_of(session.folder, run.directory, run.view, busy=busy)

    def _start(self, offer: Offer, choice: Choice | None) -> None:
        from mlxft_tui.export.report import ExportState

        if choice is None:
            return
        out = self._context.session.path(str(choice.out))
        choice = type(choice)(
            form=choice.form, out=out, checkpoint=choice.checkpoint, quantize=choice.quantize
        )
        name, model = offer.adapter.name, offer.adapter.recipe.model
        self._state = ExportState(name=name, model=model, choice=choice)
        self._context.run_in_background(partial(self._export, offer, choice), group="export")
        self._show()

    async def _export(self, offer: Offer, choice: Choice) -> None:
        """Export in a child process that ends with it."""
        session, adapter = self._context.session, offer.adapter
        model, progress = adapter.recipe.model, Progress()
        try:
            command = await asyncio.to_thread(session.export_command, adapter, choice, model)
            self._client = client = await session.exporter()
            opening = OpenModel(model, adapter.recipe.trust_remote_code)
            for each in (opening, command):
                async for reply in client.stream(each):
                    self._take(reply, progress)
        except MlxftError as error:
            self._end(problem=str(error).replace("another --out", "another folder"))
        finally:
            self._client = None
            await session.end_exporter()

    def _take(self, reply: AnyReply, progress: Progress) -> None:
        from mlxft_tui.export.report import STAGES

        if isinstance(reply, Progressed):
            words = progress.describe(reply.progress, time.monotonic())
            stage = reply.progress.stage
            self._change(
                progress=STAGES.get(stage, f"{stage} ") + words.removeprefix(stage).strip()
            )
        elif isinstance(reply, ExportFinished):
            self._end(exported=reply.exported)

    def _cancel(self) -> None:
        """Cancel the export at its next safe point."""
        self._change(cancelling=True)
        self._context.run_in_background(self._send_cancel, group="export-cancel")

    async def _send_cancel(self) -> None:
        try:
            if self._client is not None:
                await self._client.send(CancelChat())
        except MlxftError as error:
            self._context.show_error(error)

    def _change(self, **changes: object) -> None:
        if self._state is not None:
            self._state = replace(self._state, **changes)  # type: ignore[arg-type]
            if self._report is not None:
                self._report.show(self._state)

    def _end(self, **result: object) -> None:
        """Show the result in the open dialog, or else say that there is one."""
        self._change(**result)
        if self._report is None and self._state is not None:
            ended = "failed" if self._state.problem else "finished"
            text = f"The export of {printable_line(self._state.name)} has {ended}; " + with_keys(
                self._context.app, "{runs.export=e} on Runs shows it."
            )
            if self._state.problem:
                show_error(self._context.app, text)
            else:
                inform(self._context.app, text, seconds=SENTENCE_SECONDS)

    def _show(self) -> None:
        from mlxft_tui.export.report import ExportReport

        if self._state is not None and self._report is None:
            self._report = ExportReport(self._state, self._cancel)
            self._context.app.push_screen(self._report, self._closed)

    def _closed(self, _: object) -> None:
        """A result that was seen makes way for the next export."""
        self._report = None
        if self._state is not None and not self._state.running:
            self._state = None
