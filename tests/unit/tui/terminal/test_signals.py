"""Sequences that notify a terminal's user."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxft.recipe import Recipe
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory
from mlxft.runs.followed import FollowedRun
from mlxft.runs.view import RunView, State, fold
from mlxft.watching.notifications import Notifications, TerminalSignal
from mlxft_tui.app.run_signals import RunSignals
from mlxft_tui.terminal.signals import signal_sequence

HOSTILE = "a\x1b]52;c;b\x07;\x9c\n9;4;1"


@pytest.mark.parametrize(
    ("how", "begin", "end"),
    [("osc9", "\x1b]9;mlxft-tui: ", "\a"), ("osc777", "\x1b]777;notify;", "\a")],
)
def test_no_text_can_end_the_sequence_or_begin_another(
    how: TerminalSignal, begin: str, end: str
) -> None:
    found = signal_sequence(how, HOSTILE, HOSTILE * 100, {})
    assert found.startswith(begin)
    assert found.endswith(end)
    inside = found[len(begin) : -len(end)]
    assert inside.isprintable()
    assert len(inside) < 500


def test_tmux_passes_a_sequence_that_is_wrapped_and_a_bell_as_it_is() -> None:
    wrapped = signal_sequence("osc9", "r", "m", {"TMUX": "/tmp/tmux"})
    assert wrapped == "\x1bPtmux;\x1b\x1b]9;mlxft-tui: r. m\a\x1b\\"
    assert signal_sequence("osc9", "r", "m", {"TERM": "tmux-256color"}) == wrapped
    assert signal_sequence("bell", "r", "m", {"TMUX": "/tmp/tmux"}) == "\a"


def test_a_title_ends_where_its_run_says() -> None:
    assert signal_sequence("osc777", "a;b", "c;d", {}) == "\x1b]777;notify;a,b;c;d\a"


def followed(state: State) -> FollowedRun:
    failed = ev.RunFailed(seq=2, time=1.0, message="Out of memory.", step=0, log="l")
    view = fold(RunView(), [failed] if state == "failed" else [])
    return FollowedRun(RunDirectory(Path("/runs/r-1")), view, state, Recipe())


class TestFollowedRun:
    def test_its_end_is_signalled_once(self) -> None:
        sent: list[str] = []
        signals = RunSignals(Notifications(terminal="bell"), sent.append)
        for run in (None, followed("running"), followed("failed"), followed("failed")):
            signals.check(run, 2.0)
        assert sent == ["\a"]

    def test_a_run_that_had_ended_before_is_not(self) -> None:
        sent: list[str] = []
        RunSignals(Notifications(terminal="bell"), sent.append).check(followed("failed"), 2.0)
        assert sent == []

    def test_only_what_is_wanted_is_sent(self) -> None:
        sent: list[str] = []
        for wanted in (Notifications(), Notifications(terminal="bell", events=("finished",))):
            signals = RunSignals(wanted, sent.append)
            for run in (followed("running"), followed("failed")):
                signals.check(run, 2.0)
        assert "".join(sent) == ""
