"""One answer as it is written, in lines: its thought folded, Markdown that grows, what it cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from rich.cells import cell_len
from textual.content import Content

from mlxft.chat.answerers import Side
from mlxft.chat.thinking import Said, parted
from mlxft_tui.text.markdown_lines import MarkdownLines, plain_lines
from mlxft_tui.text.markdown_parts import shown
from mlxft_tui.text.theme import MUTED

THOUGHT: Final = "$foreground 60% italic"


class Line(NamedTuple):
    """A line of an answer, and the look of what has none of its own in it."""

    content: Content
    look: str = ""

    def is_same(self, other: Line) -> bool:
        """Whether it looks the same."""
        same = self.content is other.content or self.content.is_same(other.content)
        return same and self.look == other.look


class AnswerLines:
    """Who answers, what, and a line about how; `changed` is called when that is another."""

    def __init__(self, side: Side, title: str, changed: Callable[[], None]) -> None:
        self.side = side
        self.status = ""
        """What is said below the text."""
        self.finished = False
        self.title = title
        self._remark = ""
        self._changed = changed
        self._marked = False
        self._text = ""
        self._shown = Said("", "")
        self._unfolded = False
        self._failed = False
        self._width = 0
        self._markdown = MarkdownLines(1)
        self._thought = MarkdownLines(1)

    @property
    def text(self) -> str:
        """What has come so far, without what the model thought."""
        return parted(self._text).text

    @property
    def written(self) -> str:
        """All that has come so far."""
        return self._text

    def entitle(self, title: str) -> None:
        """Say anew who answers."""
        self.title = title
        self._changed()

    def remark(self, remark: str) -> None:
        """Say below who answers what is to be known of what was asked."""
        if remark != self._remark:
            self._remark = remark
            self._changed()

    def mark(self, marked: bool) -> None:
        """Show whether the next key is about this answer."""
        self._marked = marked
        self._changed()

    def write(self, text: str) -> None:
        """Add a piece of the answer; `look` takes it among the lines."""
        self._text += text

    def unfold(self, unfolded: bool) -> None:
        """Show what the model thought, or only that it did."""
        self._unfolded = unfolded
        self._changed()

    def say(self, status: str) -> None:
        """Say below the text what is going on."""
        if status != self.status:
            self.status = status
            self._changed()

    def fail(self, problem: str) -> None:
        """Show what has come, and in one sentence why there is no more."""
        self._failed = True
        self.finish(problem)

    def finish(self, status: str, text: str | None = None) -> None:
        """Show all of the text, and what it cost; `text` is the whole answer, where it is known."""
        self._text = self._text if text is None else text
        self._shown, self.status, self.finished = parted(self._text), status, True
        self._changed()

    def look(self) -> bool:
        """Take what has come since the last look among the lines; False if that is nothing."""
        # A carriage return may be the first half of a line's end.
        said = self._shown if self.finished else parted(self._text.removesuffix("\r"))
        if said == self._shown:
            return False
        self._shown = said
        return True

    def lines(self, width: int) -> Iterator[Line]:
        """All of it in so many cells; lines that are the same as before are the same object."""
        if width != self._width:
            self._width = width
            self._markdown, self._thought = MarkdownLines(width), MarkdownLines(width)
        mark, look = ("▸ ", "bold $primary") if self._marked else ("", MUTED)
        yield from (Line(each) for each in plain_lines(mark + shown(self.title), width, look)[:1])
        if self._remark:
            yield from (Line(each) for each in plain_lines(self._remark, width, MUTED))
        yield from self._thought_lines(width)
        yield from (Line(each) for each in self._markdown.of(shown(self._shown.text)))
        look = "$error" if self._failed else MUTED
        yield from (Line(each) for each in status_lines(shown(self.status), width, look))

    def _thought_lines(self, width: int) -> Iterator[Line]:
        thought = self._shown.thought
        if not thought:
            return
        doing = "thinks" if self._shown.thinks else "thought"
        sign, key = ("▾", "folds") if self._unfolded else ("▸", "shows")
        head = Content(f"{sign} {doing}, {len(thought.split())} words; g {key}").truncate(width)
        lines: Sequence[Content] = self._thought.of(shown(thought)) if self._unfolded else ()
        yield from (Line(each, THOUGHT) for each in (head, *lines))


def status_lines(status: str, width: int, look: str) -> list[Content]:
    """What is said below an answer, broken between its parts, which two blanks keep apart."""
    rows: list[str] = []
    for part in filter(None, status.split("  ")):
        if rows and cell_len(rows[-1]) + 2 + cell_len(part) <= width:
            rows[-1] += f"  {part}"
        else:
            rows.append(part)
    return [line for row in rows for line in plain_lines(row, width, look)]
