"""Messages name no default key, since users have keys of their own."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

KEY = re.compile(
    r"(?<!\w)\(([1-5a-zA-Z]|esc|enter|ctrl\+\w)\)"
    r"|\b([Pp]ress|[Ww]ith) ([1-5b-zA-Z]|esc|enter|ctrl\+\w)\b"
    r"|(^|[;,.:…(] ?| )([1-5b-zA-Z]|esc|escape|enter|ctrl\+\w) "
    r"(adds|applies|asks|begins|cancels|deletes|holds|inserts|lists|opens|picks|resumes|retries"
    r"|saves|selects|sends|shows|skips|starts|stops|takes|trains|undoes)\b"
)
"""A key in a sentence; with_keys and shown_key write the one in force."""

SHELL = ("tui/mlxft_tui/cli/",)
"""Keys of the shell and of the terminal can't be remapped here."""


def sources() -> list[Path]:
    found = [*(ROOT / "core").rglob("*.py"), *(ROOT / "tui").rglob("*.py")]
    return [each for each in found if not each.relative_to(ROOT).as_posix().startswith(SHELL)]


def messages(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Each text of a module that isn't a docstring, with ``{}`` for what is put into it."""
    statements = {id(each.value) for each in ast.walk(tree) if isinstance(each, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            statements |= {id(each) for each in node.values}
            parts = (each.value if isinstance(each, ast.Constant) else "{}" for each in node.values)
            yield node.lineno, "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and id(node) not in statements:
            yield node.lineno, str(node.value)


def test_no_message_names_a_default_key() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text[:90]!r}"
        for path in sources()
        for line, text in messages(ast.parse(path.read_text(encoding="utf-8")))
        if KEY.search(text)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "text",
    ["set it on the Recipe screen (2).", "a run is in progress; 3 shows it", "  u undoes it",
     "with c on the Data screen", "Press x on train", "Answering… esc stops", "v retries."],
)  # fmt: skip
def test_it_would_be_noticed(text: str) -> None:
    assert KEY.search(text)
