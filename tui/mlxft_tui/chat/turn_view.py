"""A prompt, the answers to it side by side, and beside them the answer that was expected."""

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

from mlxft.chat.answerers import NameAnew, Side
from mlxft.chat.dialogue import Turn
from mlxft_tui.terminal.connection import is_remote
from mlxft_tui.text.answer_lines import AnswerLines, Line
from mlxft_tui.text.markdown_lines import plain_lines
from mlxft_tui.text.markdown_parts import shown
from mlxft_tui.text.theme import MUTED

PAINT_SECONDS = 0.2
REMOTE_PAINT_SECONDS = 0.5
"""Time between two additions to the text on screen."""

PAINT_SHARE = 0.2
"""Share of the time that painting may take, however hard a text is to lay out."""

BESIDE: Final = 100
"""Cells from which the expected answer has room beside the others."""

INDENT: Final = 2
GAP: Final = 2

APART: Final = "asked without what stands above"

_BAR: Final = Content.styled("█ ", "$accent")
_BLANK: Final = Line(Content(""))


class Cell(NamedTuple):
    """A line where its column begins."""

    x: int
    line: Line


Row = tuple[Cell, ...]


class _Kept(NamedTuple):
    """A row as it was drawn."""

    row: Row
    style: Style
    strip: Strip


class TurnView(Widget):
    """One turn of the conversation on screen: one widget, of which only rows in view are drawn.

    A widget for each part would have all parts of a conversation laid out again at each addition.
    """

    DEFAULT_CSS = """
    TurnView {
        height: auto;
        width: 1fr;
        margin-bottom: 1;
    }
    """

    # Textual would lay the screen out again after each change of the size.
    virtual_size = Reactive(Size(0, 0))

    def __init__(
        self,
        turn: Turn,
        asked: Sequence[tuple[Side, str]],
        branch: tuple[int, int] = (1, 1),
        *,
        apart: bool = False,
    ) -> None:
        super().__init__()
        self.turn = turn
        self.asked = asked
        self.answers = self._new_answers()
        """In the order of their columns."""
        self._branch = branch
        self._apart = apart
        """Whether it was asked by itself though there are turns before."""
        self._rows: Sequence[Row] = ()
        self._fixed: tuple[Sequence[Line], Sequence[Line]] = ((), ())
        self._width = 0
        self._strips: dict[int, _Kept] = {}
        """What rows look like: a change of the height has all be asked for again."""
        self._reserved = 0
        self._timer: Timer | None = None
        self._next_paint = 0.0

    def _new_answers(self) -> list[AnswerLines]:
        return [AnswerLines(side, title, self._changed) for side, title in self.asked]

    def on_mount(self) -> None:
        self._follow()

    def ask_again(self, asked: Sequence[tuple[Side, str]]) -> None:
        """Make room for new answers in place of the old ones."""
        self.asked = asked
        for each in (self.turn.answers, self.turn.titles, self.turn.ends, self.turn.costs):
            each.clear()
        self.answers = self._new_answers()
        self._follow()
        self._changed()

    def name_anew(self, anew: NameAnew) -> None:
        """Say anew who answered, as the turn has it by now."""
        self.asked = [anew(side, title) for side, title in self.asked]
        for each in self.answers:
            each.side, title = anew(each.side, each.title)
            each.entitle(title)

    def unfold(self, unfolded: bool) -> None:
        """Show what was thought, or only that it was."""
        for each in self.answers:
            each.unfold(unfolded)

    def answer(self, side: Side) -> AnswerLines:
        """Where a side's answer is written."""
        return next(each for each in self.answers if each.side == side)

    # What comes

    def _follow(self) -> None:
        """Look for what has come as long as an answer is written."""
        if self._timer is None and not self._finished:
            seconds = REMOTE_PAINT_SECONDS if is_remote() else PAINT_SECONDS
            self._timer = self.set_interval(seconds, self._paint)

    @property
    def _finished(self) -> bool:
        return all(each.finished for each in self.answers)

    def _paint(self) -> None:
        """Show what has come since the last paint."""
        started = time.monotonic()
        if started < self._next_paint:
            return
        news = [each.look() for each in self.answers]
        if not any(news):
            return
        self._show()
        ended = time.monotonic()
        self._next_paint = ended + (ended - started) / PAINT_SHARE

    def _changed(self) -> None:
        """Something else than the growing text of an answer is another."""
        if self._finished and self._timer is not None:
            self._timer.stop()
            self._timer = None
        if self._finished:
            self._reserved = 0
        self._show()
        if self._finished:
            self.refresh(layout=True)

    def _show(self) -> None:
        """Lay out the present state and paint the rows that differ."""
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
        """Make room some rows ahead: a text that grows row by row moves all above it."""
        if self._timer is not None and any(each.text for each in self.answers):
            ahead = self._rows_below() or max(4, self.screen.size.height // 2)
            self._reserved = len(self._rows) + ahead
        self.refresh(layout=True)

    def _rows_below(self) -> int:
        """Rows of the screen that the turn can grow into without anything being scrolled."""
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
        rows: list[Row] = [(Cell(0, line),) for line in (*prompt, _BLANK)]
        if expected and width < BESIDE:
            rows += [(Cell(INDENT, line),) for line in (*expected, _BLANK)]
        beside = [expected] if expected and width >= BESIDE else []
        columns = _columns(width, len(beside), len(self.answers))
        answers = zip(self.answers, columns[len(beside) :], strict=True)
        written = [each.lines(room) for each, (_, room) in answers]
        for lines in zip_longest(*beside, *written, fillvalue=_BLANK):
            row = zip(columns, lines, strict=True)
            rows.append(tuple(Cell(x, line) for (x, _), line in row))
        self._rows = rows

    def _prompt_lines(self, width: int) -> list[Line]:
        number, count = self._branch
        way = f"  {number} of {count}" if count > 1 else ""
        lines = plain_lines(shown(self.turn.prompt), width, "bold")
        lines[-1] = Content.assemble(lines[-1], (way, "dim")).truncate(width)
        apart = plain_lines(APART, width, MUTED) if self._apart else []
        return [Line(Content.assemble(_BAR, line)) for line in (*apart, *lines)]

    def _expected_lines(self, width: int) -> list[Line]:
        example = self.turn.example
        if example is None:
            return []
        beside = width >= BESIDE
        room = _columns(width, 1, len(self.answers))[0][1] if beside else width - INDENT
        head = plain_lines(f"{shown(example.place)} expects", room, "$success dim")
        text = plain_lines(shown(example.expected), room, "$success")
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
        row, kept = self._rows[y], self._strips.get(y)
        if kept is not None and kept.style == style and _is_same(kept.row, row):
            return kept.strip
        content = self._selected(_joined(row), y)
        strips = Visual.to_strips(self, content, width, 1, style, apply_selection=False)
        strip = strips[0].adjust_cell_length(width, style.rich_style).apply_offsets(0, y)
        if self.text_selection is None:
            self._strips[y] = _Kept(row, style, strip)
        return strip

    def selection_updated(self, selection: Selection | None) -> None:
        self._strips.clear()
        super().selection_updated(selection)

    def notify_style_update(self) -> None:
        self._strips.clear()
        super().notify_style_update()

    # What is selected with the mouse

    def _selected(self, line: Content, y: int) -> Content:
        span = self.text_selection.get_span(y) if self.text_selection else None
        if span is None:
            return line
        style = Style.from_styles(self.screen.get_component_styles("screen--selection"))
        return line.stylize(style, span[0], None if span[1] == -1 else span[1])

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """What is selected, without the indent of the answers."""
        rows = "\n".join(_joined(row).plain.rstrip() for row in self._rows)
        first, *rest = selection.extract(rows).split("\n")
        if selection.start is None or selection.start.x == 0:
            first = first.removeprefix(" " * INDENT)
        return "\n".join([first, *(each.removeprefix(" " * INDENT) for each in rest)]), "\n"


def _columns(width: int, expected: int, answers: int) -> list[tuple[int, int]]:
    """Where each column begins and how wide it is; what is expected has half of what answers have.

    `expected` is 1 where that stands beside, else 0.
    """
    count = expected + answers
    room = max(count, width - INDENT - GAP * (count - 1))
    first = room // 3 if expected else 0
    widths = [first] * expected + [max(1, (room - first) // answers)] * answers
    starts = [INDENT + sum(widths[:at]) + GAP * at for at in range(count)]
    return list(zip(starts, widths, strict=True))


def _joined(row: Row) -> Content:
    """A row's lines side by side."""
    end, parts = 0, list[Content | str]()
    for x, (content, look) in row:
        parts += [" " * (x - end), content.stylize_before(look) if look else content]
        end = x + content.cell_length
    return Content.assemble(*parts)


def _is_same(old: Row, new: Row) -> bool:
    return len(old) == len(new) and all(
        before.x == after.x and before.line.is_same(after.line)
        for before, after in zip(old, new, strict=True)
    )
