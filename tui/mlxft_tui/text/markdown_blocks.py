"""Parses Markdown into blocks and list items, each a sequence of pieces to draw."""

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
"""Characters parsed at once; a longer block is shown as plain text, unless it is code."""

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
"""Nesting depth up to which the parser keeps content."""


@dataclass(frozen=True)
class Words:
    """A paragraph or a heading."""

    content: Content


@dataclass(frozen=True)
class Code:
    """A code block, possibly unfinished."""

    text: str
    language: str
    closed: bool


@dataclass(frozen=True)
class Table:
    """Rows of cells, header first, and each column's alignment."""

    rows: Sequence[Sequence[Content]]
    alignments: Sequence[str]
    source: str


@dataclass(frozen=True)
class Rule:
    """A horizontal rule."""


@dataclass(frozen=True)
class Piece:
    """A drawable with the prefix of its first line and that of the others."""

    body: Words | Code | Table | Rule
    first: str = ""
    rest: str = ""
    spaced: bool = False
    """Whether a blank line precedes it within its block."""


@dataclass(frozen=True)
class Block:
    """A block or list item, with its source up to the next one."""

    source: str
    pieces: Sequence[Piece]
    spaced: bool
    """Whether a blank line precedes it."""


_AMBIGUOUS: Final[dict[int, str | None]] = {
    0x200D: None,  # zero-width joiner
    0xFE0F: None,  # emoji selector
    **dict.fromkeys(range(0x1F3FB, 0x1F400)),  # skin tones
    **{0x1F1E6 + at: chr(ord("A") + at) for at in range(26)},  # halves of flags
}
"""Characters that only some terminals merge with their neighbours."""


def sanitized(text: str) -> str:
    """Untrusted text without control characters, of the same width on every terminal.

    Characters whose width varies between terminals are removed or replaced by letters.
    """
    return printable(text).translate(_AMBIGUOUS)


def parsed(text: str, after_blank: bool = False) -> tuple[Sequence[Block], bool]:
    """The first blocks of `sanitized` text, at least one, and whether they are all.

    If they aren't, the rest of the text may still change the last one. `after_blank` says whether a
    blank line precedes the text.
    """
    if len(text) <= MOST_PARSED:
        return _split(text, after_blank), True
    cut = text.rfind("\n", 0, MOST_PARSED) + 1 or MOST_PARSED
    blocks = _split(text[:cut], after_blank)
    if len(blocks) > 1:
        return blocks, False
    if blocks[0].pieces and isinstance(blocks[0].pieces[0].body, Code):
        end = _end_of_code(text)
        return _split(text[:end], after_blank), end == len(text)
    return [_plain(text[:cut], after_blank)], cut == len(text)


def _plain(source: str, spaced: bool) -> Block:
    text = source.strip("\n")
    return Block(source, [Piece(Words(Content(text)))] if text else [], spaced)


def _end_of_code(text: str) -> int:
    """Where the code fence at the beginning of the text ends."""
    opening = re.match(r"\s*(`{3,}|~{3,})", text)
    if opening is None:
        return len(text)
    mark = re.escape(opening[1][0])
    closing = re.compile(rf"^ {{0,3}}{mark}{{{len(opening[1])},}}[ ]*\n", re.MULTILINE)
    found = closing.search(text, text.find("\n", opening.end()))
    return found.end() if found else len(text)


def _split(text: str, after_blank: bool) -> list[Block]:
    lines = text.split("\n")
    groups = list(_token_groups(_PARSER.parse(text)))
    starts = [0, *(_line(tokens[0]) for tokens in groups[1:])]
    ends = [*starts[1:], len(lines)]
    blocks = []
    for tokens, start, end in zip(groups, starts, ends, strict=False):
        source = "\n".join(lines[start:end]) + ("\n" if end < len(lines) else "")
        before = lines[start - 1] if start else lines[0]
        spaced = not before.strip() or (after_blank and not start)
        blocks.append(_block(tokens, source, start, spaced))
    return blocks or [_plain(text, after_blank)]


def _block(tokens: Sequence[Token], source: str, start: int, spaced: bool) -> Block:
    if any(token.level >= _MOST_LEVELS for token in tokens):
        # The parser drops deeper content.
        return _plain(source, spaced)
    return Block(source, _Walk(source.split("\n"), start).pieces_of(tokens), spaced)


def _token_groups(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """The tokens of each block, or of each item of a list."""
    group: list[Token] = []
    for token in tokens:
        if token.level == 0 and token.type in _LIST_ENDS:
            continue
        group.append(token)
        ends_item = token.level == 1 and token.type == "list_item_close"
        if ends_item or (token.level == 0 and token.nesting <= 0):
            yield group
            group = []


def _line(token: Token) -> int:
    """The line a block begins in."""
    return token.map[0] if token.map else 0


@dataclass
class _Mark:
    """The prefix of an open block: a quote's on each line, an item's on its first."""

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
    """Walks the tokens of a block; `lines` is its source, beginning at line `start`."""

    def __init__(self, lines: Sequence[str], start: int) -> None:
        self._lines = lines
        self._start = start
        self._marks: list[_Mark] = []
        self._pieces: list[Piece] = []

    def pieces_of(self, tokens: Sequence[Token]) -> Sequence[Piece]:
        """The pieces to draw."""
        style, remaining = "", iter(tokens)
        for token in remaining:
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
                    self._add(self._table(token, remaining), token)
                case "hr":
                    self._add(Rule(), token)
        return self._pieces

    def _leave(self, token: Token) -> None:
        """Close the innermost mark; an empty item or quote is still drawn."""
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
        """A code block; a fence without a closing line is still being written."""
        end = token.map[1] - self._start if token.map else 0
        last = self._lines[end - 1].lstrip(" >") if 0 < end <= len(self._lines) else ""
        closed = token.type == "code_block" or (
            token.map is not None
            and token.map[1] - token.map[0] > 1
            and last.rstrip(" ").strip(token.markup[:1]) == ""
            and last.startswith(token.markup)
        )
        language = token.info.split(" ")[0] if token.info else ""
        return Code(sanitized(token.content).removesuffix("\n"), sanitized(language), closed)

    def _table(self, opening: Token, remaining: Iterator[Token]) -> Table:
        rows: list[list[Content]] = []
        alignments: list[str] = []
        for token in takewhile(lambda token: token.type != "table_close", remaining):
            match token.type:
                case "tr_open":
                    rows.append([])
                case "th_open":
                    alignments.append(str(token.attrs.get("style", "")).removeprefix("text-align:"))
                case "inline":
                    rows[-1].append(inline(token))
        start, end = opening.map or (self._start, self._start)
        source = "\n".join(self._lines[start - self._start : end - self._start])
        return Table(rows, alignments, source)


def inline(token: Token) -> Content:
    """The styled text of an inline token."""
    writer = _Inline()
    for child in token.children or ():
        writer.add(child)
    return writer.content


class _Inline:
    """Builds styled text from the children of an inline token."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._length = 0
        self._spans: list[Span] = []
        self._open: list[tuple[int, str, str]] = []

    @property
    def content(self) -> Content:
        """The text so far."""
        return Content("".join(self._text), self._spans)

    def add(self, child: Token) -> None:
        """Add a child."""
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
        """End a style; a link shows its target unless its text does."""
        start, style, target = self._open.pop()
        self._spans.append(Span(start, self._length, style))
        if target and not target.endswith("".join(self._text)[start:].strip()):
            self._write(f" ({target})", MUTED)

    def _write(self, text: str, style: str = "") -> None:
        # An entity may stand for a control character.
        text = sanitized(text)
        if style:
            self._spans.append(Span(self._length, self._length + len(text), style))
        self._text.append(text)
        self._length += len(text)


def _parser() -> MarkdownIt:
    """Markdown as models write it: line breaks count, and HTML is text."""
    parser = MarkdownIt("gfm-like", {"html": False})
    # Link definitions would disappear from the text.
    return parser.disable("reference")


_PARSER: Final = _parser()
