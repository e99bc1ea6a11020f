"""A prompt, the answers to it side by side, and the answer that was expected."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Static

from mlxft_tui.dialogue import Turn
from mlxft_tui.markdown_parts import shown
from mlxft_tui.sides import Side
from mlxft_tui.widgets.answer import AnswerView


class TurnView(Vertical):
    """One turn of the conversation on screen."""

    DEFAULT_CSS = """
    TurnView {
        height: auto;
        margin-bottom: 1;

        & > .prompt {
            color: $foreground;
            text-style: bold;
            border-left: thick $accent;
            padding: 0 1;
            margin-bottom: 1;
        }
        & > .answers {
            height: auto;
            padding-left: 2;
        }
        & > .answers > AnswerView {
            margin-right: 2;
        }
        & > .expected {
            margin-top: 1;
            padding-left: 2;
            color: $success;
        }
    }
    """

    def __init__(
        self, turn: Turn, asked: Sequence[tuple[Side, str]], branch: tuple[int, int] = (1, 1)
    ) -> None:
        super().__init__()
        self.turn = turn
        self.asked = asked
        self._branch = branch

    def compose(self) -> ComposeResult:
        number, count = self._branch
        way = (f"  {number} of {count}", "dim not bold") if count > 1 else ""
        yield Static(Content.assemble(shown(self.turn.prompt), way), classes="prompt")
        with Horizontal(classes="answers"):
            yield from self._answers()
        if self.turn.example is not None:
            expected = shown(self.turn.example.expected)
            place = self.turn.example.place
            text = Content.assemble((f"{place} expects\n", "dim"), expected)
            yield Static(text, classes="expected")

    def _answers(self) -> list[AnswerView]:
        return [AnswerView(side, title) for side, title in self.asked]

    async def ask_again(self, asked: Sequence[tuple[Side, str]]) -> None:
        """Make room for new answers in place of the old ones."""
        self.asked = asked
        self.turn.answers.clear()
        self.turn.titles.clear()
        answers = self.query_one(".answers", Horizontal)
        await answers.remove_children()
        await answers.mount_all(self._answers())

    def unfold(self, unfolded: bool) -> None:
        """Show what was thought, or only that it was."""
        for each in self.query(AnswerView):
            each.unfold(unfolded)

    def answer(self, side: Side) -> AnswerView:
        """Where a side's answer is written."""
        return next(each for each in self.query(AnswerView) if each.side == side)
