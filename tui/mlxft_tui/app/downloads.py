"""The download of a model: a process of its own, whatever screen is shown."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from functools import partial
from typing import TYPE_CHECKING

from mlxft.runs.events import ProgressMade
from mlxft_tui.text.progress import Transfer
from mlxft_tui.widgets.notices import SENTENCE_SECONDS, inform, show_error
from mlxft_tui.widgets.remappable import with_keys

if TYPE_CHECKING:
    from mlxft_tui.app.context import Context
    from mlxft_tui.models.picker import ModelPicker

CANCELLED = 130
"""The command's exit status after ctrl-c."""


class ModelDownloads:
    """Follows the one download at a time, and shows it in the open dialog or as a notice."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._name = ""
        self._words = ""
        self._process: Process | None = None
        self._dialog: ModelPicker | None = None

    @property
    def running(self) -> str:
        """The name of the model that is being downloaded, or empty."""
        return self._name

    @property
    def words(self) -> str:
        """How far it is, or how the latest one ended; or empty."""
        return self._words

    def watch(self, dialog: ModelPicker | None) -> None:
        """Show each change in this dialog; a result that was seen is forgotten."""
        if dialog is None and not self._name:
            self._words = ""
        self._dialog = dialog

    def start(self, name: str) -> None:
        """Download a model, unless one is being downloaded."""
        if not self._name:
            self._name, self._words = name, f"{name}: connecting …"
            self._context.run_in_background(partial(self._download, name), group="download")

    def cancel(self) -> None:
        """Cancel the download; what has arrived is kept."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()

    async def _download(self, name: str) -> None:
        command = (sys.executable, "-m", "mlxft_tui.cli", "download", name, "--json")
        process = await asyncio.create_subprocess_exec(
            *command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, start_new_session=True
        )
        self._process = process
        try:
            await self._follow(process, name)
            _, said = await process.communicate()
            self._end(name, process.returncode or 0, said.decode(errors="replace"))
        finally:
            # The application is closing: the next download continues this one.
            if process.returncode is None:
                process.terminate()
            self._process = None

    async def _follow(self, process: Process, name: str) -> None:
        assert process.stdout is not None
        transfer = Transfer()
        async for line in process.stdout:
            row = json.loads(line)
            if "stage" in row:
                progress = ProgressMade(**row)
                self._show(f"{name}: {transfer.describe(progress, time.monotonic())}")

    def _show(self, words: str, *, ended: bool = False) -> None:
        self._words = words
        if self._dialog is not None and self._dialog.is_mounted:
            self._dialog.download_changed(ended=ended)

    def _end(self, name: str, status: int, said: str) -> None:
        self._name = ""
        # A process that has just been started has no handler of the signal yet.
        is_cancelled = status in (CANCELLED, -signal.SIGTERM)
        if is_cancelled:
            self._show(f"{name}: cancelled; what has arrived is kept.", ended=True)
        elif status:
            problem = said.strip().rpartition("\n")[2].removeprefix("mlxft-tui: ")
            self._show(problem or f"{name}: the download ended with status {status}.", ended=True)
        else:
            self._show(f"{name} is here.", ended=True)
        if self._dialog is None:
            hint = with_keys(self._context.app, "{recipe.models=m} on Recipe shows it.")
            text = f"{self._words} {hint}"
            if is_cancelled or not status:
                inform(self._context.app, text, seconds=SENTENCE_SECONDS)
            else:
                show_error(self._context.app, text)
            self._words = ""
