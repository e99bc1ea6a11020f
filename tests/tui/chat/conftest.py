"""Fixtures of the Chat screen's tests."""

from __future__ import annotations

import pytest

from mlxft_tui.chat.screen import ChatScreen
from support.journal import START


@pytest.fixture(autouse=True)
def fixed_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the clock a second after the synthetic run's 60th step."""
    monkeypatch.setattr(ChatScreen, "clock", staticmethod(lambda: START + 25))
