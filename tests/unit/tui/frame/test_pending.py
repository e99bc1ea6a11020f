"""When a command is done: once the run's journal says so."""

from __future__ import annotations

from msgspec.structs import replace

from mlxft.engine.protocol import Continue, Pause
from mlxft.recipe import Recipe
from mlxft.runs import events as ev
from mlxft.runs.view import RunView, fold
from mlxft_tui.frame.pending import PendingCommand
from support.scripted import training

PAUSED = ev.RunPaused(step=3)
CONTINUED = ev.RunContinued(step=3, paused_seconds=0.1)


def numbered(view: RunView, *events: ev.AnyEvent) -> RunView:
    """The view after these events, numbered as a journal numbers them."""
    last = view.log[-1].seq if view.log else 0
    return fold(view, [replace(each, seq=seq) for seq, each in enumerate(events, last + 1)])


class TestConfirmation:
    def test_a_pause_that_is_over_within_one_look_was_one(self) -> None:
        view = numbered(RunView(), *training(Recipe(), 3))
        asked = PendingCommand(Pause(), 0.0, view)
        assert not asked.is_confirmed(view)
        assert asked.is_confirmed(numbered(view, PAUSED, CONTINUED))

    def test_so_is_a_going_on_that_was_paused_again(self) -> None:
        view = numbered(RunView(), *training(Recipe(), 3), PAUSED)
        asked = PendingCommand(Continue(), 0.0, view)
        assert not asked.is_confirmed(view)
        assert asked.is_confirmed(numbered(view, CONTINUED, PAUSED))

    def test_an_earlier_pause_is_no_answer(self) -> None:
        view = numbered(RunView(), *training(Recipe(), 3), PAUSED, CONTINUED)
        assert not PendingCommand(Pause(), 0.0, view).is_confirmed(view)
