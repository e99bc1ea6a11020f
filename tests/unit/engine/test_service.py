"""The model service's calls, without a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mlxft.compute import backend
from mlxft.compute.models import loading
from mlxft.engine.mailbox import Call
from mlxft.engine.protocol import AnyReply, OpenModel, Refused
from mlxft.engine.service import OPENING_CANCELLED, Service
from mlxft.runs.events import BackendReady, ProgressMade


class TestAnOpeningThatNobodyWaitsFor:
    def test_is_cancelled_in_the_middle_of_a_download(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        replies: list[AnyReply] = []
        call = Call(1, OpenModel("owner/large"), replies.append)

        def locate(model: str, on_progress: Callable[[ProgressMade], object]) -> Path:
            on_progress(ProgressMade(stage="downloading", done=1, total=2))
            call.cancelled.set()
            on_progress(ProgressMade(stage="downloading", done=2, total=2))
            raise AssertionError("the download continued")

        monkeypatch.setattr(loading, "locate", locate)
        ready = BackendReady(device="x86_64", kind="cpu")
        monkeypatch.setattr(backend, "initialise", lambda: ready)
        Service().follow(call)
        assert replies[-1] == Refused(id=1, message=OPENING_CANCELLED)
        assert len(replies) == 2
