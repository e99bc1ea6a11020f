"""The table of what can be exported of each family."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.exported_families import FAMILIES, ROWS_FILE, measured

ROWS = json.loads(ROWS_FILE.read_text(encoding="utf-8"))


def test_every_family_has_its_line() -> None:
    assert tuple(ROWS) == FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
def test_a_line_is_what_comes_back_as_it_was(family: str, tiny_model: Path, tmp_path: Path) -> None:
    assert measured(family, tiny_model, tmp_path) == ROWS[family]
