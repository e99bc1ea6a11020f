"""The project speaks the field's plain English: the words below have a better one."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]

FORBIDDEN: Final[dict[str, str]] = {
    r"go(?:es|ing|ne)? on|went on": "continue, keep running",
    r"at work": "running",
    r"anew": "again, from scratch",
    r"lea(?:ve|ves|ving) (?:it |them |this |that )?off|left off": "cancel, skip, omit",
    r"by hand": "manually",
    r"tells|told": "shows, reports, says",
    r"(?:\d+|an?|each|every|last|one|first) looks?(?! like)": "sample, check",
    r"ask(?:s|ed|ing)? for": "request",
    r"by heart": "overfitting",
    r"loss stands|stands still": "plateau",
    r"weights are lost|lost weights": "the run has diverged",
    r"is no number": "is NaN or infinite",
    r"learnt": "learned",
    r"shall": "should, must",
    r"mend(?:s|ed|ing)?": "fix",
    r"an? (?:running )?training(?! \w)|trainings": "a run",
    r"data sets?": "dataset",
    r"[\d}] %": "86.0%, without a space",
    r"who answers": "model",
    r"la(?:y|ys|id) (?:\w+ ){0,3}under": "overlay",
    r"held off|holds off": "prevented",
    r"br(?:eak|eaks|oke|oken) off": "cancelled",
    r"given up for|gives? up for": "discarded",
    r"(?:this|the|an?|each|no|every|these|its|much|by) rooms?": "package; space",
    r"walls?(?! (?:time|clock))": "import contract",
    r"house": "architecture",
    r"last words?": "final message",
    r"under way": "running",
    r"sureness": "confidence",
    r"likeness": "near duplicates",
    r"doubts?": "warning",
    r"doubtful": "questionable",
    r"deeds?": "action",
    r"thereof|therein|whereof|herein|aforesaid": "a plain word",
}
"""Each pattern, matched as whole words whatever the case, with what to write in its place."""

PAGES: Final = "pages"

PATTERN: Final = re.compile(
    "|".join(rf"(?<!\w)(?:{each})(?!\w)" for each in FORBIDDEN), re.IGNORECASE
)


def sources(part: str) -> list[Path]:
    """Every Python file of a folder, or every page of the project."""
    found = [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / folder / "README.md" for folder in ("data", "adapters", "findings")),
        ROOT / "benchmarks" / "RESULTS.md",
    ]
    return sorted(found if part == PAGES else (ROOT / part).rglob("*.py"))


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Each text of a file with its line: pages by line, code by string, comment and name."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        yield from enumerate(source.splitlines(), start=1)
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, " ".join(node.value.split())
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, in_words(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, in_words(node.id)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def in_words(name: str) -> str:
    """``test_it_goes_on`` and ``GoesOn`` as words."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ").strip()


def faults(path: Path) -> list[str]:
    return sorted(
        f"{path.relative_to(ROOT)}:{line}: {match[0]!r} in {text[:80]!r}"
        for line, text in texts(path)
        for match in PATTERN.finditer(text)
    )


@pytest.mark.parametrize("part", ["core", "tui", "benchmarks", "tests", PAGES])
def test_words_of_the_field(part: str) -> None:
    paths = [path for path in sources(part) if path != Path(__file__)]
    assert len(paths) > 10
    found = [fault for path in paths for fault in faults(path)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("word", ["goes on", "Anew", "data sets", "86.0 %", "is told", "learnt"])
def test_a_forbidden_word_is_found(word: str) -> None:
    assert PATTERN.search(f"The run {word} here.")
