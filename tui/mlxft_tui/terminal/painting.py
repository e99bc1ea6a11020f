"""Write only the changed cells to the terminal.

Textual sends a changed line of a widget from its left edge on, with all colours. On a slow link
that is most of the traffic, so the painter remembers the terminal's cells and writes only changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from rich.cells import cell_len
from rich.color import ColorSystem
from rich.console import Console
from rich.style import Style
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate
from textual.geometry import Size
from textual.strip import Strip

NEAR: Final = 4
"""A gap of unchanged cells that is as cheap to write as to skip."""

_ATTRIBUTES: Final = (
    ("bold", "1"),
    ("dim", "2"),
    ("italic", "3"),
    ("underline", "4"),
    ("blink", "5"),
    ("reverse", "7"),
    ("strike", "9"),
)
_SHOWN_ON_BLANKS: Final = {"4", "7", "9"}


class Ink(NamedTuple):
    """A cell's style as SGR parameters, and its link."""

    attributes: tuple[str, ...] = ()
    foreground: str = ""
    background: str = ""
    link: str = ""


class Cell(NamedTuple):
    """A character with its ink; the second cell of a wide one is empty."""

    text: str
    ink: Ink


class Piece(NamedTuple):
    """A strip of an update and its position."""

    x: int
    y: int
    strip: Strip


class Painter:
    """Remembers what the terminal shows."""

    def __init__(self) -> None:
        self._size = Size(0, 0)
        self._rows: list[list[Cell | None]] = []

    def forget(self) -> None:
        """Assume nothing about the terminal: it was resized, cleared or used by another program."""
        self._rows = []

    def painted(self, update: CompositorUpdate, size: Size) -> CompositorUpdate:
        """The update, reduced to the changed cells when it is written."""
        return _Difference(self, update, size)

    def difference(self, update: CompositorUpdate, size: Size, colours: ColorSystem) -> str:
        """The escape sequences that bring the terminal to the state of the update."""
        if not self._rows or size != self._size:
            self._size = size
            self._rows = [[None] * size.width for _ in range(size.height)]
        pen = _Pen()
        for x, y, strip in _pieces(update):
            # During a resize, an update may still have the previous size.
            if y < size.height and x < size.width:
                self._paint(pen, x, y, _cells(strip, colours)[: size.width - x])
        return pen.finish()

    def _paint(self, pen: _Pen, x: int, y: int, cells: list[Cell]) -> None:
        row = self._rows[y]
        shown = row[x : x + len(cells)]
        if shown == cells:
            return
        for start, end in _changes(shown, cells):
            pen.write(x + start, y, cells[start:end])
        row[x : x + len(cells)] = cells


class _Difference(CompositorUpdate):
    """An update compared with the terminal's cells when it is written."""

    def __init__(self, painter: Painter, update: CompositorUpdate, size: Size) -> None:
        self._painter = painter
        self._update = update
        self._size = size

    def render_segments(self, console: Console) -> str:
        colours = console._color_system or ColorSystem.TRUECOLOR
        return self._painter.difference(self._update, self._size, colours)


class _Pen:
    """Writes cells with as few cursor moves and colour changes as possible."""

    def __init__(self) -> None:
        self._written: list[str] = []
        self._at: tuple[int, int] | None = None
        self._ink = Ink()

    def write(self, x: int, y: int, cells: list[Cell]) -> None:
        """Write neighbouring cells of one row."""
        self._move(x, y)
        for cell in cells:
            if cell.text:
                self._set_ink(cell)
                self._written.append(cell.text)
        self._at = (x + len(cells), y)

    def finish(self) -> str:
        """Everything written, ending in the terminal's default style."""
        if self._ink != Ink():
            self._set_ink(Cell("", Ink()))
        return "".join(self._written)

    def _move(self, x: int, y: int) -> None:
        if self._at is not None and self._at[1] == y and self._at[0] < x:
            self._written.append(f"\x1b[{x - self._at[0]}C")
        elif self._at != (x, y):
            self._written.append(f"\x1b[{y + 1};{x + 1}H")

    def _set_ink(self, cell: Cell) -> None:
        ink, before = cell.ink, self._ink
        if ink == before or (cell.text == " " and _looks_blank(before, ink)):
            return
        if ink.link != before.link:
            self._written.append(f"\x1b]8;;{ink.link}\x1b\\")
        if ink.attributes != before.attributes or not (ink.foreground and ink.background):
            codes = ["0", *ink.attributes, ink.foreground, ink.background]
            codes = [code for code in codes if code]
        else:
            codes = [ink.foreground] if ink.foreground != before.foreground else []
            codes += [ink.background] if ink.background != before.background else []
        if codes:
            self._written.append(f"\x1b[{';'.join(codes)}m")
        self._ink = ink


def _looks_blank(ink: Ink, blank: Ink) -> bool:
    """Whether a space looks the same in both inks."""
    shown = _SHOWN_ON_BLANKS & {*ink.attributes, *blank.attributes}
    return not shown and (ink.background, ink.link) == (blank.background, blank.link)


def _pieces(update: CompositorUpdate) -> Iterator[Piece]:
    """The strips of an update, as Textual writes them."""
    if isinstance(update, LayoutUpdate):
        for y, strips in enumerate(update.strips, update.region.y):
            x = update.region.x
            for strip in strips:
                yield Piece(x, y, strip)
                x += strip.cell_length
    elif isinstance(update, ChopsUpdate):
        for y, left, right in update.spans:
            chops = update.chops[y]
            for end, (x, chop) in zip(update.chop_ends[y], chops.items(), strict=False):
                if chop is not None and x <= right and end > left:
                    yield Piece(x, y, chop.crop(0, min(end, right) - x))


def _cells(strip: Strip, colours: ColorSystem) -> list[Cell]:
    cells: list[Cell] = []
    for text, style, _ in strip:
        ink = _ink(style or Style.null(), colours)
        blank = Cell(" ", _blank(ink))
        if text.isascii():
            cells += [blank if each == " " else Cell(each, ink) for each in text]
            continue
        for each in text:
            width = cell_len(each)
            if width:
                cells += [Cell(each, ink), *[Cell("", ink)] * (width - 1)]
            elif cells:
                # A combining character.
                cells[-1] = Cell(cells[-1].text + each, cells[-1].ink)
    return cells


@lru_cache(maxsize=1024)
def _ink(style: Style, colours: ColorSystem) -> Ink:
    attributes = tuple(code for name, code in _ATTRIBUTES if getattr(style, name))
    foreground = style.color.downgrade(colours).get_ansi_codes() if style.color else ()
    background = style.bgcolor.downgrade(colours).get_ansi_codes(False) if style.bgcolor else ()
    return Ink(attributes, ";".join(foreground), ";".join(background), style.link or "")


@lru_cache(maxsize=1024)
def _blank(ink: Ink) -> Ink:
    """The ink of a space, whose foreground is invisible."""
    if _SHOWN_ON_BLANKS & set(ink.attributes):
        return ink
    return Ink((), "", ink.background, ink.link)


@dataclass
class _Range:
    start: int
    end: int


def _changes(shown: list[Cell | None], cells: list[Cell]) -> list[tuple[int, int]]:
    """Ranges of changed cells, merged where the gap is small."""
    ranges: list[_Range] = []
    for at, (before, after) in enumerate(zip(shown, cells, strict=True)):
        if before == after:
            continue
        if ranges and at - ranges[-1].end <= NEAR and _same_ink(cells[ranges[-1].end - 1 : at + 1]):
            ranges[-1].end = at + 1
        else:
            ranges.append(_Range(at, at + 1))
    return [(_whole(cells, each.start), each.end) for each in ranges]


def _same_ink(cells: list[Cell]) -> bool:
    return len({cell.ink for cell in cells if cell.text != " "}) <= 1


def _whole(cells: list[Cell], start: int) -> int:
    """The first cell of the character at a cell."""
    while start and not cells[start].text:
        start -= 1
    return start
