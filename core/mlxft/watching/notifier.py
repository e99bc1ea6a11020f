"""Notifies of one session of a run, also when no app is open."""

from __future__ import annotations

import time
from typing import Final

from mlxft.advice.of_view import advise
from mlxft.runs.directory import RunDirectory
from mlxft.runs.followed import FollowedRun, Follower
from mlxft.runs.view import RunView
from mlxft.watching.notifications import Notifications, deliver
from mlxft.watching.occasions import Occasions
from mlxft.watching.voice import Voice

POLL_SECONDS: Final = 1.0


class Notifier:
    """Follows a run until its session has ended."""

    def __init__(
        self, directory: RunDirectory, after: int, voice: Voice, wanted: Notifications
    ) -> None:
        """`after` is the number of the last event before the session."""
        self._directory = directory
        self._after = after
        self._voice = voice
        self._wanted = wanted
        self._follower = Follower(directory)
        self._occasions = Occasions(has_been_live=True)

    def run(self) -> None:
        """Notify until the session has ended."""
        run: FollowedRun | None = None
        while self._directory.journal_file.is_file():
            # Before the journal: an engine writes its last event, then releases the lock.
            live = self._directory.is_live()
            run = self._follower.poll() or run
            if run is not None and self._begun(run.view):
                self._notify(run)
                if not run.live:
                    return
            elif not live:
                return  # Whoever has started this engine says why it didn't begin.
            time.sleep(POLL_SECONDS)

    def _begun(self, view: RunView) -> bool:
        """Whether the journal shows the session, and not just those before it."""
        return any(
            event is not None and event.seq > self._after for event in (view.started, view.ending)
        )

    def _notify(self, run: FollowedRun) -> None:
        advice = advise(run.view, (), run.recipe) if run.live else None
        for occasion in self._occasions.news(run, advice, time.time()):
            self._voice.engine_has_ended = not run.live
            for problem in deliver(occasion, self._wanted):
                self._voice.say(problem)
