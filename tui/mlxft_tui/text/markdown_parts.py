"""Markdown taken apart: blocks and the items of lists, with what is to be drawn of each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token
from textual.content import Content, Span

from mlxft.text.printable import printable
from mlxft_tui.text.theme import MUTED

MOST_PARSED: Final = 16_384
"""Characters parsed at once; a longer block is shown as it is, unless it is code."""

_INLINE: Final = {
    "strong": "bold",
    "em": "italic",
    "s": "strike",
    "link": "$primary underline",
}
_CODE: Final = "$accent"
_HEADING: Final = "bold $primary"
_BLANK: Final = re.compile(r"[ >]*")
_LIST_ENDS: Final = (
    "bullet_list_open",
    "bullet_list_close",
    "ordered_list_open",
    "ordered_list_close",
)
_MOST_LEVELS: Final = 19
"""Blocks within blocks that the parser follows."""


@dataclass(frozen=True)
class Words:
    """A paragraph or a heading."""

    content: Content


@dataclass(frozen=True)
class Code:
    """A block of code, as far as it has come."""

    text: str
    language: str
    closed: bool


@dataclass(frozen=True)
class Table:
    """Rows of cells, the head first; `sides` is where each column's text stands."""

    rows: Sequence[Sequence[Content]]
    sides: Sequence[str]
    source: str


@dataclass(frozen=True)
class Rule:
    """A line across."""


@dataclass(frozen=True)
class Piece:
    """Something to draw behind a prefix, that of its first line and that of the others."""

    body: Words | Code | Table | Rule
    first: str = ""
    rest: str = ""
    spaced: bool = False
    """Whether a blank line is before it, within its part."""


@dataclass(frozen=True)
class Part:
    """A block of a text, or an item of a list, with its source up to the next one."""

    source: str
    pieces: Sequence[Piece]
    spaced: bool
    """Whether a blank line is before it."""


_AMBIGUOUS: Final[dict[int, str | None]] = {
    0x200D: None,  # zero-width joiner
    0xFE0F: None,  # emoji selector
    **dict.fromkeys(range(0x1F3FB, 0x1F400)),  # skin tones
    **{0x1F1E6 + at: chr(ord("A") + at) for at in range(26)},  # halves of flags
}
"""Signs that merge with their neighbours on one terminal and not on another."""


def shown(text: str) -> str:
    """Foreign text without control characters, each sign in cells of its own.

    What takes more cells on one terminal than on another is left out, or letters stand for it.
    """
    return printable(text).translate(_AMBIGUOUS)


def parsed(text: str, after_blank: bool = False) -> tuple[Sequence[Part], bool]:
    """The parts at the beginning of a text made `shown`, at least one, and whether they are all.

    Where they are not all, what follows may still change the last of several. `after_blank` says
    whether a blank line is before the text.
    """
    if len(text) <= MOST_PARSED:
        return _parts(text, after_blank), True
    cut = text.rfind("\n", 0, MOST_PARSED) + 1 or MOST_PARSED
    parts = _parts(text[:cut], after_blank)
    if len(parts) > 1:
        return parts, False
    if parts[0].pieces and isinstance(parts[0].pieces[0].body, Code):
        end = _end_of_code(text)
        return _parts(text[:end], after_blank), end == len(text)
    return [_as_it_is(text[:cut], after_blank)], cut == len(text)


def _as_it_is(source: str, spaced: bool) -> Part:
    text = source.strip("\n")
    return Part(source, [Piece(Words(Content(text)))] if text else [], spaced)


def _end_of_code(text: str) -> int:
    """Where the fence ends that a text begins with."""
    opening = re.match(r"\s*(`{3,}|~{3,})", text)
    if opening is None:
        return len(text)
    mark = re.escape(opening[1][0])
    closing = re.compile(rf"^ {{0,3}}{mark}{{{len(opening[1])},}}[ ]*\n", re.MULTILINE)
    found = closing.search(text, text.find("\n", opening.end()))
    return found.end() if found else len(text)


def _parts(text: str, after_blank: bool) -> list[Part]:
    lines = text.split("\n")
    blocks = list(_blocks(_PARSER.parse(text)))
    starts = [0, *(_line(tokens[0]) for tokens in blocks[1:])]
    ends = [*starts[1:], len(lines)]
    parts = []
    for tokens, start, end in zip(blocks, starts, ends, strict=False):
        source = "\n".join(lines[start:end]) + ("\n" if end < len(lines) else "")
        before = lines[start - 1] if start else lines[0]
        spaced = not before.strip() or (after_blank and not start)
        parts.append(_part(tokens, source, start, spaced))
    return parts or [_as_it_is(text, after_blank)]


def _part(tokens: Sequence[Token], source: str, start: int, spaced: bool) -> Part:
    if any(token.level >= _MOST_LEVELS for token in tokens):
        # What is deeper the parser leaves out.
        return _as_it_is(source, spaced)
    return Part(source, _Walk(source.split("\n"), start).pieces_of(tokens), spaced)


def _blocks(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """The tokens of each block; of a list, those of each item."""
    block: list[Token] = []
    for token in tokens:
        if token.level == 0 and token.type in _LIST_ENDS:
            continue
        block.append(token)
        ends_item = token.level == 1 and token.type == "list_item_close"
        if ends_item or (token.level == 0 and token.nesting <= 0):
            yield block
            block = []


def _line(token: Token) -> int:
    """The line of the text that a block begins in."""
    return token.map[0] if token.map else 0


@dataclass
class _Mark:
    """What an open block puts before its lines: a quote on each, an item on its first."""

    text: str
    repeats: bool
    written: bool = False

    @property
    def first(self) -> str:
        return self.text if self.repeats or not self.written else self.rest

    @property
    def rest(self) -> str:
        return self.text if self.repeats else " " * len(self.text)


class _Walk:
    """Goes through a part's tokens; `lines` are its source, of which `start` is the first."""

    def __init__(self, lines: Sequence[str], start: int) -> None:
        self._lines = lines
        self._start = start
        self._marks: list[_Mark] = []
        self._pieces: list[Piece] = []

    def pieces_of(self, tokens: Sequence[Token]) -> Sequence[Piece]:
        """What is to be drawn of the tokens."""
        style, coming = "", iter(tokens)
        for token in coming:
            match token.type:
                case "blockquote_open":
                    self._marks.append(_Mark("▎ ", repeats=True))
                case "list_item_open":
                    number = f"{token.info}{token.markup} " if token.info else "• "
                    self._marks.append(_Mark(number, repeats=False))
                case "blockquote_close" | "list_item_close":
                    self._leave(token)
                case "heading_open" | "heading_close":
                    style = _HEADING if token.nesting > 0 else ""
                case "inline":
                    self._add(Words(inline(token).stylize_before(style)), token)
                case "fence" | "code_block":
                    self._add(self._code(token), token)
                case "table_open":
                    self._add(self._table(token, coming), token)
                case "hr":
                    self._add(Rule(), token)
        return self._pieces

    def _leave(self, token: Token) -> None:
        """Close the innermost mark; an item or a quote without content is drawn all the same."""
        if not self._marks[-1].written:
            self._add(Words(Content("")), token)
        self._marks.pop()

    def _add(self, body: Words | Code | Table | Rule, token: Token) -> None:
        first = "".join(mark.first for mark in self._marks)
        rest = "".join(mark.rest for mark in self._marks)
        before = _line(token) - self._start - 1
        spaced = bool(self._pieces) and before >= 0 and bool(_BLANK.fullmatch(self._lines[before]))
        self._pieces.append(Piece(body, first, rest, spaced and token.map is not None))
        for mark in self._marks:
            mark.written = True

    def _code(self, token: Token) -> Code:
        """A fence that its own last line doesn't close is still being written."""
        end = token.map[1] - self._start if token.map else 0
        last = self._lines[end - 1].lstrip(" >") if 0 < end <= len(self._lines) else ""
        closed = token.type == "code_block" or (
            token.map is not None
            and token.map[1] - token.map[0] > 1
            and last.rstrip(" ").strip(token.markup[:1]) == ""
            and last.startswith(token.markup)
        )
        language = token.info.split(" ")[0] if token.info else ""
        return Code(shown(token.content).removesuffix("\n"), shown(language), closed)

    def _table(self, opening: Token, coming: Iterator[Token]) -> Table:
        rows: list[list[Content]] = []
        sides: list[str] = []
        for token in takewhile(lambda token: token.type != "table_close", coming):
            match token.type:
                case "tr_open":
                    rows.append([])
                case "th_open":
                    sides.append(str(token.attrs.get("style", "")).removeprefix("text-align:"))
                case "inline":
                    rows[-1].append(inline(token))
        start, end = opening.map or (self._start, self._start)
        source = "\n".join(self._lines[start - self._start : end - self._start])
        return Table(rows, sides, source)


def inline(token: Token) -> Content:
    """A block's text with its styles."""
    writer = _Inline()
    for child in token.children or ():
        writer.take(child)
    return writer.content


class _Inline:
    """Writes the children of a block one after the other."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._length = 0
        self._spans: list[Span] = []
        self._open: list[tuple[int, str, str]] = []

    @property
    def content(self) -> Content:
        """What was written."""
        return Content("".join(self._text), self._spans)

    def take(self, child: Token) -> None:
        """Write one child."""
        match child.type:
            case "softbreak" | "hardbreak":
                self._write("\n")
            case "code_inline":
                self._write(child.content, _CODE)
            case "image":
                self._write(f"{child.content} ({child.attrs.get('src', '')})")
            case _ if child.nesting > 0:
                style = _INLINE[child.type.removesuffix("_open")]
                self._open.append((self._length, style, str(child.attrs.get("href", ""))))
            case _ if child.nesting < 0:
                self._close()
            case _:
                self._write(child.content)

    def _close(self) -> None:
        """End a style; a link tells where it goes, unless its text does."""
        start, style, target = self._open.pop()
        self._spans.append(Span(start, self._length, style))
        if target and not target.endswith("".join(self._text)[start:].strip()):
            self._write(f" ({target})", MUTED)

    def _write(self, text: str, style: str = "") -> None:
        # An entity may have been written for a control character.
        text = shown(text)
        if style:
            self._spans.append(Span(self._length, self._length + len(text), style))
        self._text.append(text)
        self._length += len(text)


def _parser() -> MarkdownIt:
    """Markdown as models write it: a line's end is a line's end, and HTML is text."""
    parser = MarkdownIt("gfm-like", {"html": False})
    # Definitions of links would vanish.
    return parser.disable("reference")


_PARSER: Final = _parser()
