"""A turn on screen: the prompt, its answers side by side, and the expected answer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import zip_longest
from typing import Final, NamedTuple

from textual.content import Content
from textual.errors import NoWidget
from textual.geometry import Region, Size
from textual.reactive import Reactive
from textual.selection import Selection
from textual.strip import Strip
from textual.style import Style
from textual.timer import Timer
from textual.visual import Visual
from textual.widget import Widget

from mlxft.chat.answerers import Answerer, Rename
from mlxft.chat.dialogue import Turn
from mlxft_tui.terminal.connection import is_remote
from mlxft_tui.text.answer_lines import AnswerLines, Line
from mlxft_tui.text.markdown_blocks import sanitized
from mlxft_tui.text.markdown_lines import plain_lines
from mlxft_tui.text.theme import MUTED

PAINT_SECONDS = 0.2
REMOTE_PAINT_SECONDS = 0.5
"""Time between two updates of the text."""

PAINT_SHARE = 0.2
"""The maximum share of time spent on painting, however slow the layout."""

BESIDE: Final = 100
"""The width from which the expected answer stands beside the others."""

INDENT: Final = 2
GAP: Final = 2

APART: Final = "sent without the conversation above"

_BAR: Final = Content.styled("█ ", "$accent")
_BLANK: Final = Line(Content(""))


class PlacedLine(NamedTuple):
    """A line and the column of cells it begins in."""

    x: int
    line: Line


TurnRow = tuple[PlacedLine, ...]


class _CachedRow(NamedTuple):
    """A rendered row."""

    row: TurnRow
    style: Style
    strip: Strip


class TurnView(Widget):
    """One widget per turn, which renders only the visible rows.

    With a widget per answer, each addition would lay out the whole conversation again.
    """

    DEFAULT_CSS = """
    TurnView {
        height: auto;
        width: 1fr;
        margin-bottom: 1;
    }
    """

    # Otherwise Textual lays the screen out again whenever the size changes.
    virtual_size = Reactive(Size(0, 0))

    def __init__(
        self,
        turn: Turn,
        titles: Sequence[tuple[Answerer, str]],
        branch: tuple[int, int] = (1, 1),
        *,
        is_apart: bool = False,
    ) -> None:
        super().__init__()
        self.turn = turn
        self.titles = titles
        """The answerers with their titles, in column order."""
        self._unfolded = False
        self.answers = self._new_answers()
        """In column order."""
        self._branch = branch
        self._is_apart = is_apart
        """Whether it was sent without the turns above it."""
        self._rows: Sequence[TurnRow] = ()
        self._fixed: tuple[Sequence[Line], Sequence[Line]] = ((), ())
        self._width = 0
        self._strips: dict[int, _CachedRow] = {}
        """Rendered rows, since Textual requests all of them again when the height changes."""
        self._reserved = 0
        self._timer: Timer | None = None
        self._next_paint = 0.0

    def _new_answers(self) -> list[AnswerLines]:
        return [AnswerLines(each, title, self._changed) for each, title in self.titles]

    def on_mount(self) -> None:
        self._start_timer()

    def reset(self, titles: Sequence[tuple[Answerer, str]]) -> None:
        """Remove the answers, for a retry by these answerers."""
        self.titles = titles
        self.turn.clear()
        self.answers = self._new_answers()
        for each in self.answers:
            each.unfold(self._unfolded)
        self._start_timer()
        self._changed()

    def rename(self, rename: Rename) -> None:
        """Rename the answerers."""
        self.titles = [rename(each, title) for each, title in self.titles]
        for each in self.answers:
            each.answerer, title = rename(each.answerer, each.title)
            each.set_title(title)

    def unfold(self, unfolded: bool) -> None:
        """Show or fold the thinking."""
        if unfolded != self._unfolded:
            self._unfolded = unfolded
            for each in self.answers:
                each.unfold(unfolded)

    def answer(self, answerer: Answerer) -> AnswerLines:
        """An answerer's answer."""
        return next(each for each in self.answers if each.answerer == answerer)

    # Updates

    def _start_timer(self) -> None:
        """Show new text at intervals while an answer is unfinished."""
        if self._timer is None and not self._finished:
            seconds = REMOTE_PAINT_SECONDS if is_remote() else PAINT_SECONDS
            self._timer = self.set_interval(seconds, self.show_new_text)

    @property
    def _finished(self) -> bool:
        return all(each.finished for each in self.answers)

    def show_new_text(self) -> None:
        """Show text written since the last update, unless painting takes too much time."""
        started = time.monotonic()
        if started < self._next_paint:
            return
        refreshed = [each.refresh() for each in self.answers]
        if not any(refreshed):
            return
        self._show()
        ended = time.monotonic()
        self._next_paint = ended + (ended - started) / PAINT_SHARE

    def _changed(self) -> None:
        """Update after any change other than new text."""
        if self._finished and self._timer is not None:
            self._timer.stop()
            self._timer = None
        if self._finished:
            self._reserved = 0
        self._show()
        if self._finished:
            self.refresh(layout=True)

    def _show(self) -> None:
        """Lay out the current state and repaint the rows that changed."""
        if not self.size.width:
            self._width = 0
            return
        before = self._rows
        self._lay_out(self.size.width)
        if len(self._rows) > self.size.height:
            self._reserve()
        for y, (old, new) in enumerate(zip(before, self._rows, strict=False)):
            if not _is_same(old, new):
                self.refresh(Region(0, y, self.size.width, 1))
        first, last = sorted((len(before), len(self._rows)))
        if first < last:
            self.refresh(Region(0, first, self.size.width, last - first))

    def _reserve(self) -> None:
        """Reserve rows ahead, so that growing text doesn't scroll with every row."""
        if self._timer is not None and any(each.text for each in self.answers):
            ahead = self._rows_below() or max(4, self.screen.size.height // 2)
            self._reserved = len(self._rows) + ahead
        self.refresh(layout=True)

    def _rows_below(self) -> int:
        """Free rows below the turn, into which it can grow without scrolling."""
        try:
            place = self.screen.find_widget(self)
        except NoWidget:
            return 0
        return max(
            0, place.clip.bottom - place.region.y - len(self._rows) - self.styles.margin.bottom
        )

    # The rows

    def _lay_out(self, width: int) -> None:
        if width != self._width:
            self._width = width
            self._strips.clear()
            self._fixed = (self._prompt_lines(width - INDENT), self._expected_lines(width))
        prompt, expected = self._fixed
        rows: list[TurnRow] = [(PlacedLine(0, line),) for line in (*prompt, _BLANK)]
        if expected and width < BESIDE:
            rows += [(PlacedLine(INDENT, line),) for line in (*expected, _BLANK)]
        beside = [expected] if expected and width >= BESIDE else []
        columns = _columns(width, len(beside), len(self.answers))
        answers = zip(self.answers, columns[len(beside) :], strict=True)
        written = [each.lines(cells) for each, (_, cells) in answers]
        for lines in zip_longest(*beside, *written, fillvalue=_BLANK):
            row = zip(columns, lines, strict=True)
            rows.append(tuple(PlacedLine(x, line) for (x, _), line in row))
        self._rows = rows

    def _prompt_lines(self, width: int) -> list[Line]:
        number, count = self._branch
        position = f"  {number} of {count}" if count > 1 else ""
        lines = plain_lines(sanitized(self.turn.prompt), width, "bold")
        lines[-1] = Content.assemble(lines[-1], (position, "dim")).truncate(width)
        apart = plain_lines(APART, width, MUTED) if self._is_apart else []
        return [Line(Content.assemble(_BAR, line)) for line in (*apart, *lines)]

    def _expected_lines(self, width: int) -> list[Line]:
        example = self.turn.example
        if example is None:
            return []
        beside = width >= BESIDE
        column = _columns(width, 1, len(self.answers))[0][1] if beside else width - INDENT
        head = plain_lines(f"{sanitized(example.place)} expects", column, "$success dim")
        text = plain_lines(sanitized(example.expected), column, "$success")
        return [Line(each) for each in (*head, *text)]

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        if width != self._width:
            self._lay_out(width)
        return max(len(self._rows), self._reserved)

    def on_resize(self) -> None:
        if self.size.width != self._width:
            self._lay_out(self.size.width)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        width, style = self.size.width, self.visual_style
        if y >= len(self._rows):
            return Strip.blank(width, style.rich_style)
        row, cached = self._rows[y], self._strips.get(y)
        if cached is not None and cached.style == style and _is_same(cached.row, row):
            return cached.strip
        content = self._selected(_joined(row), y)
        strips = Visual.to_strips(self, content, width, 1, style, apply_selection=False)
        strip = strips[0].adjust_cell_length(width, style.rich_style).apply_offsets(0, y)
        if self.text_selection is None:
            self._strips[y] = _CachedRow(row, style, strip)
        return strip

    def selection_updated(self, selection: Selection | None) -> None:
        self._strips.clear()
        super().selection_updated(selection)

    def notify_style_update(self) -> None:
        self._strips.clear()
        super().notify_style_update()

    # Mouse selection

    def _selected(self, line: Content, y: int) -> Content:
        span = self.text_selection.get_span(y) if self.text_selection else None
        if span is None:
            return line
        style = Style.from_styles(self.screen.get_component_styles("screen--selection"))
        return line.stylize(style, span[0], None if span[1] == -1 else span[1])

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """The selected text without the answers' indent."""
        rows = "\n".join(_joined(row).plain.rstrip() for row in self._rows)
        first, *rest = selection.extract(rows).split("\n")
        if selection.start is None or selection.start.x == 0:
            first = first.removeprefix(" " * INDENT)
        return "\n".join([first, *(each.removeprefix(" " * INDENT) for each in rest)]), "\n"


def _columns(width: int, expected: int, answers: int) -> list[tuple[int, int]]:
    """Start and width of each column; the expected answer's is half as wide as the others.

    `expected` is the number of columns for it, 0 or 1.
    """
    count = expected + answers
    available = max(count, width - INDENT - GAP * (count - 1))
    first = available // 3 if expected else 0
    widths = [first] * expected + [max(1, (available - first) // answers)] * answers
    starts = [INDENT + sum(widths[:at]) + GAP * at for at in range(count)]
    return list(zip(starts, widths, strict=True))


def _joined(row: TurnRow) -> Content:
    """A row's lines as one."""
    end, parts = 0, list[Content | str]()
    for x, (content, style) in row:
        parts += [" " * (x - end), content.stylize_before(style) if style else content]
        end = x + content.cell_length
    return Content.assemble(*parts)


def _is_same(old: TurnRow, new: TurnRow) -> bool:
    return len(old) == len(new) and all(
        before.x == after.x and before.line.is_same(after.line)
        for before, after in zip(old, new, strict=True)
    )
