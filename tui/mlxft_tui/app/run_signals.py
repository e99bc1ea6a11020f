"""Notifications of the followed run through the app's own terminal."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Final

from mlxft.errors import MlxftError
from mlxft.storage.paths import notifications_file
from mlxft_tui.terminal.signals import signal_sequence

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.app import App

    from mlxft.runs.followed import FollowedRun
    from mlxft.watching.notifications import Notifications
    from mlxft.watching.occasions import Occasions
    from mlxft_tui.app.context import Context

CHECK_SECONDS: Final = 1.0


class RunSignals:
    """Signals each occasion of a run once, if it was seen training before."""

    def __init__(self, wanted: Notifications, write: Callable[[str], object]) -> None:
        """`write` sends a sequence to the terminal."""
        self._wanted = wanted
        self._write = write
        self._followed: FollowedRun | None = None
        self._occasions: Occasions | None = None

    def check(self, run: FollowedRun | None, now: float) -> None:
        """Signal what is new of the run that is followed now."""
        from mlxft.advice.of_view import advise
        from mlxft.watching.occasions import Occasions

        if run is None:
            return
        if self._occasions is None or not self._is_followed(run):
            self._occasions = Occasions()
        self._followed = run
        advice = advise(run.view, (), run.recipe) if run.live else None
        for occasion in self._occasions.news(run, advice, now):
            if occasion.kind in self._wanted.events:
                self._write(
                    signal_sequence(
                        self._wanted.terminal, occasion.title, occasion.message, os.environ
                    )
                )

    def _is_followed(self, run: FollowedRun) -> bool:
        return self._followed is not None and self._followed.directory == run.directory


async def signal_runs(context: Context) -> None:
    """Signal the followed run's occasions for as long as the app is open, if that is wanted."""
    if not notifications_file().exists():
        return
    from mlxft.watching.notifications import load

    try:
        wanted = await asyncio.to_thread(load, notifications_file())
    except MlxftError as error:
        context.show_error(error)
        return
    if wanted.terminal == "none":
        return
    signals = RunSignals(wanted, lambda sequence: _send(context.app, sequence))
    while True:
        signals.check(context.state.run, time.time())
        await asyncio.sleep(CHECK_SECONDS)


def _send(app: App[None], sequence: str) -> None:
    """Send a sequence that paints nothing to the app's terminal, between two paints."""
    if app._driver is not None and not app.is_headless:
        app._driver.write(sequence)
