"""One answer as it is written: its thought folded, Markdown that grows, and what it cost."""

from __future__ import annotations

import time
from collections.abc import Sequence

from textual.content import Content
from textual.geometry import Region, Size
from textual.selection import Selection
from textual.strip import Strip
from textual.style import Style
from textual.timer import Timer
from textual.visual import Visual
from textual.widget import Widget

from mlxft_tui.markdown_lines import MarkdownLines, plain_lines
from mlxft_tui.markdown_parts import shown
from mlxft_tui.sides import Side
from mlxft_tui.terminal import is_remote
from mlxft_tui.theme import MUTED
from mlxft_tui.thinking import Said, parted

PAINT_SECONDS = 0.2
REMOTE_PAINT_SECONDS = 0.5
"""Time between two additions to the text on screen."""

PAINT_SHARE = 0.2
"""Share of the time that painting may take, however hard a text is to lay out."""

THOUGHT = "$foreground 60% italic"


class AnswerView(Widget):
    """Who answers, what, and a line about how: one widget, of which only lines in view are drawn.

    A widget for each block would have all of a conversation laid out again at each addition.
    """

    DEFAULT_CSS = """
    AnswerView {
        height: auto;
        width: 1fr;
    }
    """

    def __init__(self, side: Side, title: str) -> None:
        super().__init__()
        self.side = side
        self.status = ""
        """What is said below the text."""
        self._title = title
        self._text = ""
        self._shown = Said("", "")
        self._unfolded = False
        self._failed = False
        self._lines: Sequence[Content] = ()
        self._thought_rows = range(0)
        self._width = 0
        self._markdown = MarkdownLines(1)
        self._thought = MarkdownLines(1)
        self._reserved = 0
        self._timer: Timer | None = None
        self._next_paint = 0.0

    def on_mount(self) -> None:
        seconds = REMOTE_PAINT_SECONDS if is_remote() else PAINT_SECONDS
        self._timer = self.set_interval(seconds, self._paint)

    @property
    def text(self) -> str:
        """What has come so far, without what the model thought."""
        return parted(self._text).text

    def entitle(self, title: str) -> None:
        """Say anew who answers."""
        self._title = title
        self._show()

    def write(self, text: str) -> None:
        """Add a piece of the answer; it is shown at the next paint."""
        self._text += text

    def unfold(self, unfolded: bool) -> None:
        """Show what the model thought, or only that it did."""
        self._unfolded = unfolded
        self._show()

    def say(self, status: str) -> None:
        """Say below the text what is going on."""
        if status != self.status:
            self.status = status
            self._show()

    def fail(self, problem: str) -> None:
        """Show what has come, and in one sentence why there is no more."""
        self._failed = True
        self.finish(problem)

    def finish(self, status: str, text: str | None = None) -> None:
        """Show all of the text, and what it cost; `text` is the whole answer, where it is known."""
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        self._text = self._text if text is None else text
        self._shown, self.status, self._reserved = parted(self._text), status, 0
        self._show()
        self.refresh(layout=True)

    def _paint(self) -> None:
        """Show what has come since the last paint."""
        started = time.monotonic()
        # A carriage return may be the first half of a line's end.
        said = parted(self._text.removesuffix("\r"))
        if said == self._shown or started < self._next_paint:
            return
        self._shown = said
        self._show()
        ended = time.monotonic()
        self._next_paint = ended + (ended - started) / PAINT_SHARE

    # The lines

    def _show(self) -> None:
        """Lay out the present state and paint the rows that differ."""
        if not self.size.width:
            self._width = 0
            return
        before = self._lines
        self._lay_out(self.size.width)
        if len(self._lines) > self.size.height:
            self._reserve()
        for y, (old, new) in enumerate(zip(before, self._lines, strict=False)):
            if old is not new and not old.is_same(new):
                self.refresh(Region(0, y, self.size.width, 1))
        first, last = sorted((len(before), len(self._lines)))
        if first < last:
            self.refresh(Region(0, first, self.size.width, last - first))

    def _reserve(self) -> None:
        """Make room some lines ahead: a text that grows line by line moves all above it."""
        if self._timer is not None and self._text:
            self._reserved = len(self._lines) + max(4, self.screen.size.height // 2)
        self.refresh(layout=True)

    def _lay_out(self, width: int) -> None:
        if width != self._width:
            self._width = width
            self._markdown, self._thought = MarkdownLines(width), MarkdownLines(width)
        title = plain_lines(shown(self._title), width, MUTED)[:1]
        thought = self._thought_lines(width)
        text = self._markdown.of(shown(self._shown.text))
        look = "$error" if self._failed else MUTED
        status = plain_lines(shown(self.status), width, look) if self.status else ()
        self._lines = [*title, *thought, *text, *status]
        self._thought_rows = range(len(title), len(title) + len(thought))

    def _thought_lines(self, width: int) -> Sequence[Content]:
        thought = self._shown.thought
        if not thought:
            return ()
        doing = "thinks" if self._shown.thinks else "thought"
        sign, key = ("▾", "folds") if self._unfolded else ("▸", "shows")
        head = Content(f"{sign} {doing}, {len(thought.split())} words; g {key}").truncate(width)
        return [head, *(self._thought.of(shown(thought)) if self._unfolded else ())]

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        if width != self._width:
            self._lay_out(width)
        return max(len(self._lines), self._reserved)

    def on_resize(self) -> None:
        if self.size.width != self._width:
            self._lay_out(self.size.width)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        width, style = self.size.width, self.visual_style
        if y >= len(self._lines):
            return Strip.blank(width, style.rich_style)
        line = self._lines[y]
        if y in self._thought_rows:
            line = line.stylize_before(THOUGHT)
        strips = Visual.to_strips(
            self, self._selected(line, y), width, 1, style, apply_selection=False
        )
        return strips[0].adjust_cell_length(width, style.rich_style).apply_offsets(0, y)

    # What is selected with the mouse

    def _selected(self, line: Content, y: int) -> Content:
        span = self.text_selection.get_span(y) if self.text_selection else None
        if span is None:
            return line
        style = Style.from_styles(self.screen.get_component_styles("screen--selection"))
        return line.stylize(style, span[0], None if span[1] == -1 else span[1])

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        return selection.extract("\n".join(line.plain for line in self._lines)), "\n"
