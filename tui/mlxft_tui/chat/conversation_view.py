"""The conversation on screen; it follows new text until the user scrolls back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.geometry import Size
from textual.reactive import Reactive
from textual.widget import Widget
from textual.widgets import Static

from mlxft.chat.answerers import Answerer, Rename
from mlxft.chat.dialogue import Dialogue, Turn, missed, status
from mlxft_tui.chat.turn_view import TurnView
from mlxft_tui.text.answer_lines import AnswerLines
from mlxft_tui.widgets.remappable import with_keys

KEY_CELLS = 9
"""Cells of a key in the welcome text."""


class _Turns(Vertical):
    """The scrolled content."""

    # Otherwise Textual lays the screen out again whenever a widget's size changes.
    virtual_size = Reactive(Size(0, 0))


class ConversationView(VerticalScroll):
    """Turns and reports, one below the other.

    An anchored container puts short content at its bottom, so it holds one widget that is at least
    as high as itself.
    """

    DEFAULT_CSS = """
    ConversationView {
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

    def __init__(self) -> None:
        super().__init__()
        self._welcome = Static("", markup=False, classes="welcome")
        self._picked: AnswerLines | None = None
        self._unfolded = False

    def compose(self) -> ComposeResult:
        with _Turns():
            yield self._welcome

    def on_mount(self) -> None:
        self.anchor()

    def show_welcome(self, text: str) -> None:
        """Say what can be done here, where nothing was asked yet."""
        self._welcome.update("\n".join(map(_aligned, with_keys(self, text).split("\n"))))

    def watch_virtual_size(self, before: Size, after: Size) -> None:
        """Lay the screen out again only when the scrollbar appears or disappears."""
        height = self.size.height
        if (before.height > height) != (after.height > height):
            self.refresh(layout=True)

    # Turns

    @property
    def turns(self) -> list[TurnView]:
        """The turns in view, first one first."""
        return list(self.query(TurnView))

    @property
    def current(self) -> TurnView | None:
        """The turn of the picked answer, else the last one."""
        turns, picked = self.turns, self.picked
        last = turns[-1] if turns else None
        return next((turn for turn in turns if picked in turn.answers), last)

    async def add(self, *widgets: Widget) -> None:
        """Append widgets."""
        self._welcome.display = False
        await self.query_one(_Turns).mount_all(widgets)
        self.anchor()

    async def add_turn(
        self, dialogue: Dialogue, turn: Turn, titles: Sequence[tuple[Answerer, str]]
    ) -> TurnView:
        """Append a turn to be answered, in place of any that are in another branch."""
        for view in self.turns:
            if view.turn not in dialogue.turns:
                await view.remove()
        view = _turn_view(dialogue, turn, titles)
        view.unfold(self._unfolded)
        self.pick(None)
        await self.add(view)
        return view

    async def show(self, dialogue: Dialogue) -> None:
        """Show the branch in view and nothing else; the welcome text if it is empty."""
        turns = dialogue.turns
        self.pick(None)
        await self.query_one(_Turns).query_children().exclude(".welcome").remove()
        views = [_turn_view(dialogue, turn, turn.answered) for turn in turns]
        await self.add(*views)
        self._welcome.display = not turns
        for view in views:
            view.unfold(self._unfolded)
            note_missed(view, dialogue)
            for answerer, text in view.turn.answers.items():
                view.answer(answerer).finish(status(view.turn, answerer), text)

    def rename(self, rename: Rename) -> None:
        """Rename the answerers, after another run is followed."""
        for turn in self.turns:
            turn.rename(rename)

    def toggle_thinking(self) -> None:
        """Show or fold the thinking in all answers."""
        self._unfolded = not self._unfolded
        for turn in self.turns:
            turn.unfold(self._unfolded)

    # The picked answer

    @property
    def picked(self) -> AnswerLines | None:
        """The picked answer, if it is still there."""
        there = any(self._picked in turn.answers for turn in self.turns)
        return self._picked if there else None

    def pick(self, answer: AnswerLines | None) -> None:
        """Mark the answer that the next key acts on, or none."""
        if self.picked is not None:
            self.picked.set_picked(False)
        self._picked = answer
        if answer is not None:
            answer.set_picked(True)
            turn = next(turn for turn in self.turns if answer in turn.answers)
            self.scroll_to_widget(turn, animate=False)

    def pick_turn(self, by: Literal[-1, 1]) -> None:
        """Pick an answer of the turn above or below, first of the last turn."""
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


def note_missed(view: TurnView, dialogue: Dialogue) -> None:
    """Note on each answer how many prompts above the model wasn't sent."""
    before = dialogue.up_to(view.turn)
    for answerer, _ in view.titles:
        count = missed(before, answerer)
        prompts = "1 prompt" if count == 1 else f"{count} prompts"
        note = f"without {prompts} it didn't answer" if count else ""
        view.answer(answerer).set_note(note)


def _turn_view(dialogue: Dialogue, turn: Turn, titles: Sequence[tuple[Answerer, str]]) -> TurnView:
    is_apart = bool(turn.alone) and dialogue.before(turn) is not None
    return TurnView(turn, titles, dialogue.branches(turn), is_apart=is_apart)


def _aligned(line: str) -> str:
    """A key and what it does, in two columns; other lines are unchanged."""
    key, gap, purpose = line.partition("  ")
    return f"{key:<{KEY_CELLS}}{purpose}" if gap else line
