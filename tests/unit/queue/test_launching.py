"""Runs that are started outside the queue and should be resumed by its supervisor."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxft import recipe as recipes
from mlxft.queue.store import own_store
from mlxft_tui import session as sessions
from mlxft_tui.session import Session
from support.journal import RUN_RECIPE, trained_run, write_run


class TestLaunching:
    @pytest.mark.parametrize("resume", ["manual", "automatic"])
    def test_the_queue_takes_over_what_resumes_by_itself(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resume: str
    ) -> None:
        monkeypatch.setattr(sessions, "launch_training", lambda _: 0)
        monkeypatch.setattr(Session, "supervise", lambda _: None)
        recipe = recipes.replace(RUN_RECIPE, "resume", resume)
        events = trained_run(recipe, 3)
        run = write_run(tmp_path / "adapters", recipe, events)
        Session(tmp_path).launch(run)
        Session(tmp_path).launch(run)
        taken = [
            (each.directory, each.urgent, each.after_seq) for each in own_store().read().waiting
        ]
        assert taken == ([(run, True, len(events))] if resume == "automatic" else [])
