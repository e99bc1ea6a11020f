"""Lays out Markdown as lines; of growing text only the end is laid out again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.cells import chop_cells
from textual.content import Content
from textual.highlight import highlight

from mlxft_tui.text import markdown_blocks
from mlxft_tui.text.markdown_blocks import Block, Code, Piece, Rule, Table, Words
from mlxft_tui.text.theme import FAINT, MUTED

OPEN_BLOCKS: Final = 2
"""Blocks at the end that more text may still change."""

MOST_HIGHLIGHTED: Final = 8_192
"""Characters of code up to which it is highlighted; a quarter of that while it grows."""

LEAST_COLUMN: Final = 3
"""The minimum width of a column in cells; a table that needs less is shown as plain text."""

_BAR: Final = " │ "
_CROSSING: Final = "─┼─"


class MarkdownLines:
    """The lines of a possibly growing text at a fixed width."""

    def __init__(self, width: int) -> None:
        self._width = max(1, width)
        self._settled = ""
        self._lines: list[Content] = []

    def of(self, text: str) -> Sequence[Content]:
        """The lines of `sanitized` text, none wider than the width."""
        if not text.startswith(self._settled):
            self._settled, self._lines = "", []
        while rest := text[len(self._settled) :]:
            blocks, whole = markdown_blocks.parsed(rest, self._ends_blank)
            kept = OPEN_BLOCKS if whole else min(OPEN_BLOCKS, len(blocks) - 1)
            for block in blocks[: len(blocks) - kept]:
                self._settle(block)
            if whole:
                return [*self._lines, *self._open_lines(blocks[len(blocks) - kept :])]
        return list(self._lines)

    @property
    def _ends_blank(self) -> bool:
        """Whether the settled text ends in a blank line."""
        last = self._settled.rstrip(" ")
        return last.endswith("\n\n") or (last == "\n")

    def _settle(self, block: Block) -> None:
        self._lines += self._spaced(block, bool(self._lines), grows=False)
        self._settled += block.source

    def _open_lines(self, blocks: Sequence[Block]) -> Iterator[Content]:
        begun = bool(self._lines)
        for block in blocks:
            lines = self._spaced(block, begun, grows=block is blocks[-1])
            begun = begun or bool(lines)
            yield from lines

    def _spaced(self, block: Block, begun: bool, *, grows: bool) -> list[Content]:
        lines = [
            line for piece in block.pieces for line in piece_lines(piece, self._width, grows=grows)
        ]
        return [Content(""), *lines] if lines and begun and block.spaced else lines


def piece_lines(piece: Piece, width: int, *, grows: bool = False) -> list[Content]:
    """The lines of a piece with its prefix; highlighting is limited while it `grows`."""
    first, rest = _prefixes(piece, width)
    inner = max(1, width - first.cell_length)
    lines = _body_lines(piece, inner, grows=grows) or [Content("")]
    if piece.spaced:
        return [rest.rstrip(), *_prefixed(first, rest, lines)]
    return _prefixed(first, rest, lines)


def plain_lines(text: str, width: int, style: str = "") -> list[Content]:
    """The lines of `sanitized` text without Markdown."""
    return _wrapped(Content.styled(text, style), max(1, width))


def _prefixes(piece: Piece, width: int) -> tuple[Content, Content]:
    """The prefixes of the first and the other lines; none if wider than half the width."""
    first, rest = Content.styled(piece.first, MUTED), Content.styled(piece.rest, MUTED)
    if first.cell_length > width // 2:
        return Content(""), Content("")
    return first, rest


def _prefixed(first: Content, rest: Content, lines: Sequence[Content]) -> list[Content]:
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
    """Content wrapped at the width, between words if possible."""
    return [
        line.truncate(width)
        for each in content.split(allow_blank=True)
        for line in (each.wrap(width) if each.cell_length > width else [each])
    ]


def _chopped(content: Content, width: int) -> list[Content]:
    """A line cut into pieces of at most `width` cells."""
    if content.cell_length <= width:
        return [content]
    ends, at = [], 0
    for piece in chop_cells(content.plain, width)[:-1]:
        at += len(piece)
        ends.append(at)
    return [each.truncate(width) for each in content.divide(ends)]


def _code_lines(code: Code, width: int, *, grows: bool) -> list[Content]:
    """Code between two short rules; an unfinished block lacks the second."""
    most = MOST_HIGHLIGHTED // 4 if grows and not code.closed else MOST_HIGHLIGHTED
    text = Content(code.text)
    if code.language and len(code.text) <= most:
        text = highlight(code.text, language=code.language)
    lines = [piece for line in text.split(allow_blank=True) for piece in _chopped(line, width)]
    top = Content.styled(f"─── {code.language}".rstrip(), FAINT).truncate(width, ellipsis=True)
    bottom = [Content.styled("───", FAINT).truncate(width)] if code.closed else []
    return [top, *lines, *bottom]


def _table_lines(table: Table, width: int) -> list[Content]:
    """A table in columns, or as plain text if they don't fit."""
    count = len(table.alignments)
    natural = [
        max(1, *(row[at].cell_length for row in table.rows if at < len(row))) for at in range(count)
    ]
    widths = column_widths(natural, width - len(_BAR) * (count - 1))
    if not widths:
        return _wrapped(Content(table.source), width)
    head, *body = table.rows
    lines = _row_lines([cell.stylize("bold") for cell in head], widths, table.alignments)
    lines.append(Content.styled(_CROSSING.join("─" * each for each in widths), FAINT))
    for row in body:
        lines += _row_lines(row, widths, table.alignments)
    return lines


def column_widths(natural: Sequence[int], available: int) -> list[int]:
    """Column widths that fit, narrowing the widest columns; empty if impossible."""
    if sum(natural) <= available:
        return list(natural)
    if len(natural) * LEAST_COLUMN > available:
        return []
    most = max(
        limit
        for limit in range(LEAST_COLUMN, max(natural) + 1)
        if sum(min(each, limit) for each in natural) <= available or limit == LEAST_COLUMN
    )
    widths = [min(each, most) for each in natural]
    spare = available - sum(widths)
    for at, each in enumerate(natural):
        if each > most and spare > 0:
            widths[at], spare = widths[at] + 1, spare - 1
    return widths


def _row_lines(
    cells: Sequence[Content], widths: Sequence[int], alignments: Sequence[str]
) -> list[Content]:
    cells = [*cells, *[Content("")] * (len(widths) - len(cells))]
    columns = [_wrapped(cell, width) for cell, width in zip(cells, widths, strict=False)]
    bar, blank = Content.styled(_BAR, FAINT), Content("")
    return [
        bar.join(
            _aligned(column[at] if at < len(column) else blank, width, alignment)
            for column, width, alignment in zip(columns, widths, alignments, strict=True)
        )
        for at in range(max(len(column) for column in columns))
    ]


def _aligned(line: Content, width: int, alignment: str) -> Content:
    gap = width - line.cell_length
    before = {"right": gap, "center": gap // 2}.get(alignment, 0)
    return line.pad(before, gap - before)
