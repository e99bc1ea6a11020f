"""A command is pending until the run's journal confirms it."""

from __future__ import annotations

from msgspec.structs import replace

from mlxft.engine.protocol import Continue, Pause
from mlxft.recipe import Recipe
from mlxft.runs import events as ev
from mlxft.runs.view import RunView, fold
from mlxft_tui.frame.pending import PendingCommand
from support.journal import trained_run

PAUSED = ev.RunPaused(step=3)
CONTINUED = ev.RunContinued(step=3, paused_seconds=0.1)


def numbered(view: RunView, *events: ev.AnyEvent) -> RunView:
    """The view after these events, numbered as in a journal."""
    last = view.log[-1].seq if view.log else 0
    return fold(view, [replace(each, seq=seq) for seq, each in enumerate(events, last + 1)])


class TestConfirmation:
    def test_a_pause_is_confirmed_even_if_it_ended_between_polls(self) -> None:
        view = numbered(RunView(), *trained_run(Recipe(), 3))
        pending = PendingCommand(Pause(), 0.0, view)
        assert not pending.is_confirmed(view)
        assert pending.is_confirmed(numbered(view, PAUSED, CONTINUED))

    def test_so_is_a_continuation_that_was_paused_again(self) -> None:
        view = numbered(RunView(), *trained_run(Recipe(), 3), PAUSED)
        pending = PendingCommand(Continue(), 0.0, view)
        assert not pending.is_confirmed(view)
        assert pending.is_confirmed(numbered(view, CONTINUED, PAUSED))

    def test_an_earlier_pause_does_not_confirm(self) -> None:
        view = numbered(RunView(), *trained_run(Recipe(), 3), PAUSED, CONTINUED)
        assert not PendingCommand(Pause(), 0.0, view).is_confirmed(view)
