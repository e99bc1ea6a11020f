"""Markdown as lines of so many cells; a text that grows is laid out again only at its end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.cells import chop_cells
from textual.content import Content
from textual.highlight import highlight

from mlxft_tui.text import markdown_parts
from mlxft_tui.text.markdown_parts import Code, Part, Piece, Rule, Table, Words
from mlxft_tui.text.theme import FAINT, MUTED

OPEN_PARTS: Final = 2
"""Parts at the end of a text that what is still to come may change."""

MOST_COLOURED: Final = 8_192
"""Characters of code that are coloured; while it is being written, a quarter of them."""

LEAST_COLUMN: Final = 3
"""Cells below which no column is narrowed; a table that would need it is shown as it is."""

_BAR: Final = " │ "
_CROSSING: Final = "─┼─"


class MarkdownLines:
    """The lines of a text in a width, also while the text grows."""

    def __init__(self, width: int) -> None:
        self._width = max(1, width)
        self._settled = ""
        self._lines: list[Content] = []

    def of(self, text: str) -> Sequence[Content]:
        """The lines of a text made `shown`: none wider than the width, each on one line."""
        if not text.startswith(self._settled):
            self._settled, self._lines = "", []
        while rest := text[len(self._settled) :]:
            parts, whole = markdown_parts.parsed(rest, self._ends_blank)
            kept = OPEN_PARTS if whole else min(OPEN_PARTS, len(parts) - 1)
            for part in parts[: len(parts) - kept]:
                self._settle(part)
            if whole:
                return [*self._lines, *self._open_lines(parts[len(parts) - kept :])]
        return list(self._lines)

    @property
    def _ends_blank(self) -> bool:
        """Whether the settled text ends in a blank line."""
        last = self._settled.rstrip(" ")
        return last.endswith("\n\n") or (last == "\n")

    def _settle(self, part: Part) -> None:
        self._lines += self._spaced(part, bool(self._lines), grows=False)
        self._settled += part.source

    def _open_lines(self, parts: Sequence[Part]) -> Iterator[Content]:
        begun = bool(self._lines)
        for part in parts:
            lines = self._spaced(part, begun, grows=part is parts[-1])
            begun = begun or bool(lines)
            yield from lines

    def _spaced(self, part: Part, begun: bool, *, grows: bool) -> list[Content]:
        lines = [
            line for piece in part.pieces for line in piece_lines(piece, self._width, grows=grows)
        ]
        return [Content(""), *lines] if lines and begun and part.spaced else lines


def piece_lines(piece: Piece, width: int, *, grows: bool = False) -> list[Content]:
    """One piece in a width, behind its prefix; one that `grows` is not worth much work."""
    first, rest = _prefixes(piece, width)
    room = max(1, width - first.cell_length)
    lines = _body_lines(piece, room, grows=grows) or [Content("")]
    if piece.spaced:
        return [rest.rstrip(), *_behind(first, rest, lines)]
    return _behind(first, rest, lines)


def plain_lines(text: str, width: int, style: str = "") -> list[Content]:
    """Text made `shown`, as it is, over as many lines as it takes."""
    return _wrapped(Content.styled(text, style), max(1, width))


def _prefixes(piece: Piece, width: int) -> tuple[Content, Content]:
    """What stands before the first and the other lines; at most half of the width."""
    first, rest = Content.styled(piece.first, MUTED), Content.styled(piece.rest, MUTED)
    if first.cell_length > width // 2:
        return Content(""), Content("")
    return first, rest


def _behind(first: Content, rest: Content, lines: Sequence[Content]) -> list[Content]:
    if not first.cell_length:
        return list(lines)
    return [Content.assemble(rest if at else first, line) for at, line in enumerate(lines)]


def _body_lines(piece: Piece, width: int, *, grows: bool) -> list[Content]:
    match piece.body:
        case Words(content=content):
            return _wrapped(content, width)
        case Code():
            return _code_lines(piece.body, width, grows=grows)
        case Table():
            return _table_lines(piece.body, width)
        case Rule():
            return [Content.styled("─" * width, FAINT)]


def _wrapped(content: Content, width: int) -> list[Content]:
    """Content over as many lines as it takes, broken between words where that is possible."""
    return [
        line.truncate(width)
        for each in content.split(allow_blank=True)
        for line in (each.wrap(width) if each.cell_length > width else [each])
    ]


def _chopped(content: Content, width: int) -> list[Content]:
    """A line of content in pieces of at most so many cells."""
    if content.cell_length <= width:
        return [content]
    ends, at = [], 0
    for piece in chop_cells(content.plain, width)[:-1]:
        at += len(piece)
        ends.append(at)
    return [each.truncate(width) for each in content.divide(ends)]


def _code_lines(code: Code, width: int, *, grows: bool) -> list[Content]:
    """Code between two short rules; a block that has no end yet has no second one."""
    most = MOST_COLOURED // 4 if grows and not code.closed else MOST_COLOURED
    text = Content(code.text)
    if code.language and len(code.text) <= most:
        text = highlight(code.text, language=code.language)
    lines = [part for line in text.split(allow_blank=True) for part in _chopped(line, width)]
    top = Content.styled(f"─── {code.language}".rstrip(), FAINT).truncate(width, ellipsis=True)
    bottom = [Content.styled("───", FAINT).truncate(width)] if code.closed else []
    return [top, *lines, *bottom]


def _table_lines(table: Table, width: int) -> list[Content]:
    """A table in columns, or as it was written where there is no room for them."""
    count = len(table.sides)
    natural = [
        max(1, *(row[at].cell_length for row in table.rows if at < len(row))) for at in range(count)
    ]
    widths = column_widths(natural, width - len(_BAR) * (count - 1))
    if not widths:
        return _wrapped(Content(table.source), width)
    head, *body = table.rows
    lines = _row_lines([cell.stylize("bold") for cell in head], widths, table.sides)
    lines.append(Content.styled(_CROSSING.join("─" * each for each in widths), FAINT))
    for row in body:
        lines += _row_lines(row, widths, table.sides)
    return lines


def column_widths(natural: Sequence[int], room: int) -> list[int]:
    """Widths in so much room, the widest columns narrowed; none where that can't be."""
    if sum(natural) <= room:
        return list(natural)
    if len(natural) * LEAST_COLUMN > room:
        return []
    most = max(
        limit
        for limit in range(LEAST_COLUMN, max(natural) + 1)
        if sum(min(each, limit) for each in natural) <= room or limit == LEAST_COLUMN
    )
    widths = [min(each, most) for each in natural]
    spare = room - sum(widths)
    for at, each in enumerate(natural):
        if each > most and spare > 0:
            widths[at], spare = widths[at] + 1, spare - 1
    return widths


def _row_lines(
    cells: Sequence[Content], widths: Sequence[int], sides: Sequence[str]
) -> list[Content]:
    cells = [*cells, *[Content("")] * (len(widths) - len(cells))]
    columns = [_wrapped(cell, width) for cell, width in zip(cells, widths, strict=False)]
    bar, blank = Content.styled(_BAR, FAINT), Content("")
    return [
        bar.join(
            _aligned(column[at] if at < len(column) else blank, width, side)
            for column, width, side in zip(columns, widths, sides, strict=True)
        )
        for at in range(max(len(column) for column in columns))
    ]


def _aligned(line: Content, width: int, side: str) -> Content:
    gap = width - line.cell_length
    before = {"right": gap, "center": gap // 2}.get(side, 0)
    return line.pad(before, gap - before)
