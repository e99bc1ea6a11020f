"""The project's pages, taken apart: headings, links, code, and the keys that they name."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]

_FENCE: Final = re.compile(r"\s*```(\w*)\s*$")
_SPAN: Final = re.compile(r"(`+)(.+?)\1")
_KEYS: Final = re.compile(r"<!-- keys: ([\w ]+) -->")
_LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
_NAMED_KEY: Final = re.compile(
    r"(?:ctrl\+|alt\+|⇧)*(?:\S|F\d+|esc|enter|space|tab|backspace|delete|home|end|pgup|pgdn)"
)


@dataclass(frozen=True)
class Code:
    """A span or a fenced line of code; `screens` are those that the text is about by then."""

    page: str
    line: int
    text: str
    language: str = ""
    """The fence's; empty for a span."""
    screens: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_key(self) -> bool:
        """Whether a span names a key: a single character, or the name of one."""
        return not self.language and bool(_NAMED_KEY.fullmatch(self.text))


@dataclass(frozen=True)
class Page:
    """A Markdown file."""

    path: Path

    @property
    def name(self) -> str:
        inside = self.path.is_relative_to(ROOT)
        return self.path.relative_to(ROOT).as_posix() if inside else self.path.name

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def code(self) -> tuple[Code, ...]:
        return tuple(self._code())

    def _code(self) -> Iterator[Code]:
        fence: str | None = None
        screens: tuple[str, ...] = ()
        for number, line in enumerate(self.text.splitlines(), 1):
            if found := _FENCE.fullmatch(line):
                fence = (found[1] or "text") if fence is None else None
            elif fence is not None:
                yield Code(self.name, number, line.strip(), fence, screens)
            elif about := _KEYS.fullmatch(line.strip()):
                screens = tuple(about[1].split())
            else:
                for span in _SPAN.finditer(line):
                    yield Code(self.name, number, span[2].strip(), "", screens)

    def fences(self, language: str) -> Iterator[tuple[str, str]]:
        """The place and text of each fenced block in a language."""
        pattern = re.compile(rf"^([ ]*)```{language}\n(.*?)^[ ]*```$", re.MULTILINE | re.DOTALL)
        for found in pattern.finditer(self.text):
            line = self.text.count("\n", 0, found.start()) + 1
            lines = (each.removeprefix(found[1]) for each in found[2].splitlines())
            yield f"{self.name}:{line}", "\n".join(lines)

    @property
    def links(self) -> Iterator[tuple[int, str]]:
        """Each target with its line."""
        for number, line in enumerate(self.text.splitlines(), 1):
            for found in _LINK.finditer(_SPAN.sub("", line)):
                yield number, found[1]

    @cached_property
    def anchors(self) -> frozenset[str]:
        """What a link's fragment may name: each heading as GitHub writes it."""
        headings = re.findall(r"^#+ (.+)$", self.text, re.MULTILINE)
        return frozenset(_slug(each) for each in headings)


def _slug(heading: str) -> str:
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return kept.replace(" ", "-")


def pages() -> list[Page]:
    """Every page of the project."""
    folders = ("", "docs", "data", "adapters", "benchmarks", "findings")
    return [Page(path) for folder in folders for path in sorted((ROOT / folder).glob("*.md"))]


def commands(program: str) -> Iterator[tuple[Code, list[str]]]:
    """Every command that a page gives for a program, as words without the program's name."""
    for page in pages():
        for each in page.code:
            if each.language not in ("", "sh") or program not in each.text:
                continue
            words = shlex.split(each.text, comments=bool(each.language))
            if words and Path(words[0]).name == program and not _is_a_name(each, words):
                yield each, words[1:]


def _is_a_name(code: Code, words: list[str]) -> bool:
    """Whether a span only names the program or one of its commands."""
    return not code.language and len(words) <= 2 and not words[-1].startswith("-")
