"""A run's log: one line per event worth reading."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import takewhile
from typing import Final

from mlxft.runs import events as ev
from mlxft.runs.events import AnyEvent
from mlxft_tui.text import event_text
from mlxft_tui.text.cells import Role, Row, Span, wrapped
from mlxft_tui.widgets.scrollback import Scrollback

TIME = "%H:%M:%S "

FILTERS: Final[dict[str, tuple[type[AnyEvent], ...]]] = {
    "all": (),
    "results": (
        ev.ValidationFinished,
        ev.CheckpointSaved,
        ev.SampleAnswered,
        ev.RunFinished,
        ev.RunFailed,
    ),
    "steering": (ev.LearningRateChanged, ev.RunPaused, ev.RunContinued, ev.RunStarted),
    "warnings": (ev.Warned, ev.RunFailed),
}
"""Filters of the log; an empty one shows all events."""


class LogView(Scrollback[AnyEvent]):
    """Long lines are wrapped, never cut."""

    def __init__(self, id: str | None = None) -> None:  # noqa: A002
        super().__init__("log", id)
        self._log: Sequence[AnyEvent] = ()
        self.filter = "all"

    def show(self, log: Sequence[AnyEvent]) -> None:
        """Show a run's log."""
        seen = self._log[-1].seq if self._log else 0
        self._log = log
        items = self._filtered()
        self.put(items, sum(1 for _ in takewhile(lambda each: each.seq > seen, reversed(items))))

    def next_filter(self) -> None:
        """Apply the next filter; the last one shows all."""
        names = list(FILTERS)
        self.filter = names[(names.index(self.filter) + 1) % len(names)]
        self._behind = 0
        self.put(self._filtered(), 0)

    def _filtered(self) -> Sequence[AnyEvent]:
        kinds = FILTERS[self.filter]
        return [each for each in self._log if isinstance(each, kinds)] if kinds else self._log

    def note(self) -> Row:
        if self.filter == "all":
            return ()
        return ((f"only {self.filter}" + ("" if self._filtered() else ", none yet"), "warning"),)

    def item_rows(self, item: AnyEvent, width: int) -> Sequence[Row]:
        text = event_text.line(item)
        if text is None:
            return []
        stamp: Span = (time.strftime(TIME, time.localtime(item.time)), "faint")
        first, *rest = wrapped(text, _role(item), width - len(stamp[0])) or [()]
        margin: Span = (" " * len(stamp[0]), "plain")
        return [(stamp, *first), *((margin, *row) for row in rest)]


def _role(event: AnyEvent) -> Role:
    match event:
        case ev.ValidationFinished(best=True):
            return "best"
        case ev.ValidationFinished():
            return "validation"
        case ev.Warned():
            return "warning"
        case ev.RunFailed():
            return "bad"
        case ev.RunFinished():
            return "good"
        case ev.TrainReported() | ev.SampleAnswered():
            return "plain"
        case _:
            return "muted"
