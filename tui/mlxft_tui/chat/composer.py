"""The prompt line with the note above it, and what its text is for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from mlxft.chat.dialogue import End, Turn
from mlxft.data.examples import Example
from mlxft.text.printable import printable_line
from mlxft_tui.chat.picked import PickedAnswer
from mlxft_tui.chat.prompt_input import PromptInput
from mlxft_tui.widgets.remappable import with_keys


@dataclass(frozen=True)
class Ask:
    """The text is a new prompt, possibly a test prompt."""

    name: ClassVar = "ask"
    example: Example | None = None


@dataclass(frozen=True)
class Edit:
    """The text is another version of a turn's prompt."""

    name: ClassVar = "edit"
    turn: Turn


@dataclass(frozen=True)
class Correct:
    """The text is a corrected answer."""

    name: ClassVar = "correct"
    answer: PickedAnswer


Purpose: TypeAlias = Ask | Edit | Correct

PLACEHOLDER = "Ask something; {chat.send} sends, {chat.new_line=ctrl+j} inserts a new line"
EDIT_NOTE = "Edit the prompt; {chat.send} sends it as a new branch, {chat.back} cancels"
CORRECT_NOTE = "Correct the answer; {chat.send} adds it to train.jsonl, {chat.back} cancels"

UNFINISHED_WARNINGS: dict[End, str] = {
    "stop": "",
    "length": "Cut at max tokens: the end is missing.  ",
    "cancelled": "Stopped early: the end is missing.  ",
}
TEST_PROMPT_WARNING = "Evaluations use this prompt; training on it biases them.  "


class Composer(Vertical):
    """Holds a draft while an example, an edit or a correction is in the line."""

    DEFAULT_CSS = """
    Composer {
        height: auto;
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self.purpose: Purpose = Ask()
        self._draft = ""

    def compose(self) -> ComposeResult:
        yield Static(id="expected")
        yield PromptInput(with_keys(self, PLACEHOLDER))

    @property
    def _line(self) -> PromptInput:
        return self.query_one(PromptInput)

    @property
    def is_asking(self) -> bool:
        """Whether the line holds a prompt, rather than an edit or a correction."""
        return isinstance(self.purpose, Ask)

    @property
    def holds_example(self) -> bool:
        """Whether the line holds an example's prompt, unchanged."""
        match self.purpose:
            case Ask(example=Example(prompt=prompt)):
                return self._line.meant == prompt
        return False

    def load_example(self, example: Example) -> None:
        """Put a test prompt into the line and show its expected answer."""
        note = Content.assemble((f"{example.place} expects  ", "dim"))
        self._load(example.prompt, Ask(example), note.append(printable_line(example.expected)))

    def load_edit(self, turn: Turn) -> None:
        """Put a turn's prompt into the line."""
        self._load(turn.prompt, Edit(turn), Content.styled(with_keys(self, EDIT_NOTE), "dim"))

    def load_correction(self, answer: PickedAnswer, text: str) -> None:
        """Put an answer's text into the line."""
        warning = UNFINISHED_WARNINGS[answer.end]
        if answer.is_test_prompt:
            warning += TEST_PROMPT_WARNING
        note = Content.assemble((warning, "$warning"), (with_keys(self, CORRECT_NOTE), "dim"))
        self._load(text, Correct(answer), note)

    def _load(self, text: str, purpose: Purpose, note: Content) -> None:
        if self.is_asking:
            self._draft = self._line.own or self._draft
        self._line.put(text)
        self._line.focus()
        self._set(purpose, note)

    def restore(self) -> Purpose:
        """Put the draft back into the line; returns the purpose until now."""
        before = self.purpose
        self._line.restore(self._draft)
        self._draft = ""
        self._set(Ask(), Content())
        return before

    def _set(self, purpose: Purpose, note: Content) -> None:
        self.purpose = purpose
        expected = self.query_one("#expected", Static)
        expected.update(note)
        expected.display = bool(note.cell_length)
        self.refresh_bindings()

    def recall(self, prompts: Sequence[str]) -> None:
        """Add prompts of earlier sessions, which the arrow keys bring back."""
        self._line.earlier = [*prompts, *self._line.earlier]

    def remember(self, prompt: str) -> None:
        """Add a prompt as the latest one."""
        earlier = [each for each in self._line.earlier if each != prompt]
        self._line.earlier = [*earlier, prompt]

    def focus_line(self) -> None:
        """Focus the line."""
        self._line.focus()

    def send(self) -> None:
        """Send the line."""
        self._line.send()
