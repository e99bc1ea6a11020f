"""The followed run, read from its journal, and the machine that it runs on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from mlxft.errors import MlxftError
from mlxft.runs.followed import START_SECONDS, Follower
from mlxft_tui.widgets.notices import inform

if TYPE_CHECKING:
    from mlxft.runs.directory import RunDirectory
    from mlxft.runs.followed import FollowedRun
    from mlxft.telemetry.sampler import Sampler
    from mlxft_tui.app.context import Context
    from mlxft_tui.app.data_reader import DataReader

POLL_SECONDS = 0.5
"""Interval between reads of the followed run's journal. Each may repaint much of the screen, which
slows a run on the same machine and fills a slow link."""

MACHINE_SECONDS = 2.0
"""Interval of machine samples while no engine writes them."""


class RunFollower:
    """Follows one run of the project, by default the live or the newest one."""

    def __init__(self, context: Context, data: DataReader, directory: RunDirectory | None) -> None:
        self._context = context
        self._data = data
        self.directory: RunDirectory | None = None
        """The followed run's; its journal may still be unread."""
        self._new: RunDirectory | None = None
        if directory is not None:
            self._set_directory(directory)

    def start(self) -> None:
        """Follow a run, and sample the machine while no engine does."""
        if self.directory is not None:
            self._follow(self.directory)
        else:
            self._follow_current()
        self._context.run_in_background(self._sample_machine, group="machine")

    def switch(self, directory: RunDirectory, *, is_new: bool = False) -> None:
        """Follow another run; of a new one nothing is kept if it fails before its first step."""
        self._new = directory if is_new else None
        run = self._context.state.run
        if run is None or run.directory != directory:
            self._context.state.run = None
        self._set_directory(directory)
        self._follow(directory)

    def follow_one_of(self, directories: Sequence[RunDirectory]) -> RunDirectory:
        """Follow the first of these runs, unless another of them is followed already."""
        if self.directory is None or self.directory not in directories:
            self.switch(directories[0])
        assert self.directory is not None
        return self.directory

    def expect_engine(self, directory: RunDirectory, patience: float) -> None:
        """Follow the run again; without an engine it is lost after `patience` seconds."""
        self._follow(directory, patience)

    def forget(self, directory: RunDirectory) -> None:
        """Follow another run instead of a deleted one."""
        if self.directory == directory:
            self._context.state.run = None
            self._set_directory(None)
            self._context.publish()
            self._follow_current()

    def stop(self, directory: RunDirectory) -> None:
        """Stop reading the journal of a run that is being deleted."""
        if self.directory == directory:
            self._context.app.workers.cancel_group(self._context.app, "follow")

    def _set_directory(self, directory: RunDirectory | None) -> None:
        self.directory = directory
        is_loading = directory is not None and self._context.state.run is None
        self._context.state.loading_run = directory.name if directory and is_loading else ""

    def _follow_current(self) -> None:
        self._context.run_in_background(self._find_current, group="follow")

    async def _find_current(self) -> None:
        """Follow the folder's live run, or else the newest."""
        found = await asyncio.to_thread(self._context.session.run_to_follow)
        if found is not None:
            self.switch(found)

    def _follow(self, directory: RunDirectory, patience: float = START_SECONDS) -> None:
        self._context.run_in_background(
            partial(self._read_journal, directory, patience), group="follow"
        )

    async def _read_journal(self, directory: RunDirectory, patience: float) -> None:
        state, follower = self._context.state, Follower(directory, patience)
        while directory.recipe_file.is_file():
            found = await asyncio.to_thread(follower.poll)
            if found is not None:
                state.run, state.loading_run = found, ""
                if found.view.machine is not None and found.live:
                    state.machine = found.view.machine.sample
                self._context.publish()
                self._data.refresh_tokens()
                if await self._is_discarded(found):
                    if state.run is found:
                        state.run = replace(found, is_kept=False)
                        self._context.publish()
                    return
            await asyncio.sleep(POLL_SECONDS)
        if state.run is not None and state.run.directory == directory:
            inform(self._context.app, f"{directory.name} was deleted.")
        self.forget(directory)

    async def _is_discarded(self, run: FollowedRun) -> bool:
        """Whether a new run has failed to start and is deleted; the screen keeps its error."""
        if run.directory != self._new or run.state not in ("failed", "lost"):
            return False
        session = self._context.session
        with suppress(MlxftError):
            return await asyncio.to_thread(session.discard_failed_start, run.directory)
        return False

    async def _sample_machine(self) -> None:
        """Sample the machine while no engine writes samples to a journal."""
        state, sampler = self._context.state, await asyncio.to_thread(_new_sampler)
        while True:
            if state.run is None or state.run.view.machine is None or not state.run.live:
                state.machine = await asyncio.to_thread(sampler.sample)
                self._context.publish()
            await asyncio.sleep(MACHINE_SECONDS)


def _new_sampler() -> Sampler:
    from mlxft.telemetry.sampler import Sampler

    return Sampler()
