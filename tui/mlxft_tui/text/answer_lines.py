"""Renders an answer as lines while it streams: title, folded thinking, Markdown and status."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from rich.cells import cell_len
from textual.content import Content

from mlxft.chat.answerers import Answerer
from mlxft.chat.thinking import SplitAnswer, split_thinking
from mlxft_tui.text.markdown_blocks import sanitized
from mlxft_tui.text.markdown_lines import MarkdownLines, plain_lines
from mlxft_tui.text.theme import MUTED

THINKING: Final = "$foreground 60% italic"


class Line(NamedTuple):
    """A line of an answer, and the style under that of its content."""

    content: Content
    style: str = ""

    def is_same(self, other: Line) -> bool:
        """Whether it renders the same."""
        same = self.content is other.content or self.content.is_same(other.content)
        return same and self.style == other.style


class AnswerLines:
    """One answer's state and its lines; calls `changed` when anything but the text changes."""

    def __init__(self, answerer: Answerer, title: str, changed: Callable[[], None]) -> None:
        self.answerer = answerer
        self.status = ""
        """The line below the text."""
        self.finished = False
        self.title = title
        self._note = ""
        self._changed = changed
        self._picked = False
        self._text = ""
        self._shown = SplitAnswer("", "")
        self._unfolded = False
        self._failed = False
        self._width = 0
        self._markdown = MarkdownLines(1)
        self._thinking = MarkdownLines(1)

    @property
    def text(self) -> str:
        """The text so far, without thinking."""
        return split_thinking(self._text).text

    @property
    def raw(self) -> str:
        """The text so far, with thinking."""
        return self._text

    def set_title(self, title: str) -> None:
        """Change the title."""
        self.title = title
        self._changed()

    def set_note(self, note: str) -> None:
        """Set the note below the title, about what the model was sent."""
        if note != self._note:
            self._note = note
            self._changed()

    def set_picked(self, picked: bool) -> None:
        """Mark it as the answer that the next key acts on."""
        self._picked = picked
        self._changed()

    def write(self, text: str) -> None:
        """Append a piece of the answer; `refresh` makes it visible."""
        self._text += text

    def unfold(self, unfolded: bool) -> None:
        """Show or fold the thinking."""
        self._unfolded = unfolded
        self._changed()

    def set_status(self, status: str) -> None:
        """Set the line below the text."""
        if status != self.status:
            self.status = status
            self._changed()

    def fail(self, problem: str) -> None:
        """End the answer with an error below the text so far."""
        self._failed = True
        self.finish(problem)

    def finish(self, status: str, text: str | None = None) -> None:
        """End the answer; `text` is the whole of it, if known."""
        self._text = self._text if text is None else text
        self._shown, self.status, self.finished = split_thinking(self._text), status, True
        self._changed()

    def refresh(self) -> bool:
        """Make the text written so far visible; False if there is nothing new."""
        # A trailing carriage return may be half of a line ending.
        answer = self._shown if self.finished else split_thinking(self._text.removesuffix("\r"))
        if answer == self._shown:
            return False
        self._shown = answer
        return True

    def lines(self, width: int) -> Iterator[Line]:
        """All lines at this width; unchanged lines are the same objects as before."""
        if width != self._width:
            self._width = width
            self._markdown, self._thinking = MarkdownLines(width), MarkdownLines(width)
        mark, style = ("▸ ", "bold $primary") if self._picked else ("", MUTED)
        yield from map(Line, plain_lines(mark + sanitized(self.title), width, style)[:1])
        if self._note:
            yield from map(Line, plain_lines(self._note, width, MUTED))
        yield from self._thinking_lines(width)
        yield from map(Line, self._markdown.of(sanitized(self._shown.text)))
        style = "$error" if self._failed else MUTED
        yield from map(Line, status_lines(sanitized(self.status), width, style))

    def _thinking_lines(self, width: int) -> Iterator[Line]:
        thinking = self._shown.thinking
        if not thinking:
            return
        state = "thinking" if self._shown.is_thinking else "thought"
        sign, key = ("▾", "folds") if self._unfolded else ("▸", "shows")
        head = Content(f"{sign} {state}, {len(thinking.split())} words; g {key}").truncate(width)
        lines: Sequence[Content] = self._thinking.of(sanitized(thinking)) if self._unfolded else ()
        yield from (Line(each, THINKING) for each in (head, *lines))


def status_lines(status: str, width: int, style: str) -> list[Content]:
    """The status over several lines, broken at its double spaces first."""
    rows: list[str] = []
    for part in filter(None, status.split("  ")):
        if rows and cell_len(rows[-1]) + 2 + cell_len(part) <= width:
            rows[-1] += f"  {part}"
        else:
            rows.append(part)
    return [line for row in rows for line in plain_lines(row, width, style)]
