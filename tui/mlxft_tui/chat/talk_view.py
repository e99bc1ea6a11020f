"""The conversation on screen: kept at its end until one scrolls back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.geometry import Size
from textual.reactive import Reactive
from textual.widget import Widget
from textual.widgets import Static

from mlxft_tui.chat.turn_view import TurnView
from mlxft_tui.text.answer_lines import AnswerLines


class _Turns(Vertical):
    """What is scrolled."""

    # Textual would lay the screen out again after each change of a widget's size.
    virtual_size = Reactive(Size(0, 0))


class TalkView(VerticalScroll):
    """Turns, and what else is said, one below the other; a short conversation stands at the top.

    What is anchored stands at the foot where it is shorter than its place, and moves with each
    line that comes. So it holds one widget that is never shorter.
    """

    DEFAULT_CSS = """
    TalkView {
        height: 1fr;
        scrollbar-gutter: stable;

        & > _Turns {
            height: auto;
            min-height: 100%;
        }
        .welcome {
            color: $foreground 60%;
            padding: 0 2;
        }
    }
    """

    virtual_size = Reactive(Size(0, 0))

    def __init__(self, welcome: str) -> None:
        super().__init__()
        self._welcome = Static(welcome, markup=False, classes="welcome")
        self._picked: AnswerLines | None = None

    def compose(self) -> ComposeResult:
        with _Turns():
            yield self._welcome

    def on_mount(self) -> None:
        self.anchor()

    def watch_virtual_size(self, before: Size, after: Size) -> None:
        """Lay the screen out again only where the scrollbar comes or goes."""
        height = self.size.height
        if (before.height > height) != (after.height > height):
            self.refresh(layout=True)

    @property
    def turns(self) -> list[TurnView]:
        """The turns in view, the first one first."""
        return list(self.query(TurnView))

    @property
    def picked(self) -> AnswerLines | None:
        """The answer that was picked, if it is still there."""
        there = any(self._picked in turn.answers for turn in self.turns)
        return self._picked if there else None

    async def add(self, *widgets: Widget) -> None:
        """Show these below all else."""
        self._welcome.display = False
        await self.query_one(_Turns).mount_all(widgets)
        self.anchor()

    async def show(self, turns: Sequence[TurnView]) -> None:
        """Show these turns and nothing else; without any, what the place is for."""
        self.pick(None)
        await self.query_one(_Turns).query_children().exclude(".welcome").remove()
        await self.add(*turns)
        self._welcome.display = not turns

    def pick(self, answer: AnswerLines | None) -> None:
        """Mark the answer that the next key is about; None leaves that to the key."""
        if self.picked is not None:
            self.picked.mark(False)
        self._picked = answer
        if answer is not None:
            answer.mark(True)
            turn = next(turn for turn in self.turns if answer in turn.answers)
            self.scroll_to_widget(turn, animate=False)

    def pick_turn(self, by: Literal[-1, 1]) -> None:
        """Pick an answer of the turn before or after; the last turn's at first."""
        turns = [turn for turn in self.turns if turn.answers]
        if not turns:
            return
        picked = self.picked
        at = next((n for n, turn in enumerate(turns) if picked in turn.answers), len(turns))
        turn = turns[min(max(0, at + by), len(turns) - 1)]
        column = turns[at].answers.index(picked) if picked and at < len(turns) else len(turns)
        self.pick(turn.answers[min(column, len(turn.answers) - 1)])

    def pick_column(self, by: Literal[-1, 1]) -> None:
        """Pick the answer beside the picked one."""
        if self.picked is None:
            self.pick_turn(1)
            return
        answers = next(turn.answers for turn in self.turns if self.picked in turn.answers)
        at = answers.index(self.picked) + by
        self.pick(answers[min(max(0, at), len(answers) - 1)])
