"""Rules are parsed once for each set of colours, and are the ones Textual would have parsed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from textual.css import stylesheet as textual_stylesheet
from textual.css.stylesheet import Stylesheet, StylesheetParseError

from mlxft_tui.text.stylesheet import RememberingStylesheet

CSS = "Label { color: $words; background: $paper; &.loud { text-style: bold; } }"
DAY = {"words": "black", "paper": "white"}
NIGHT = {"words": "white", "paper": "black"}


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sources that Textual's parser was given."""
    sources: list[str] = []
    parse = textual_stylesheet.parse

    def recorded(scope: str, css: str, *args: Any, **options: Any) -> Iterator[Any]:
        sources.append(css)
        return iter(parse(scope, css, *args, **options))

    monkeypatch.setattr(textual_stylesheet, "parse", recorded)
    return sources


def filled(sheet: Stylesheet, css: str) -> Stylesheet:
    sheet.add_source(css, ("here", ""))
    return sheet


def test_each_theme_has_the_rules_that_textual_parses() -> None:
    sheet = filled(RememberingStylesheet(variables=DAY), CSS)
    for colours in (DAY, NIGHT, DAY):
        sheet.set_variables(colours)
        sheet.reparse()
        assert sheet.css == filled(Stylesheet(variables=colours), CSS).css


def test_a_source_is_parsed_once_for_each_theme(parsed: list[str]) -> None:
    css = CSS + "Input { color: $words; }"
    for colours in (DAY, NIGHT, DAY, NIGHT):
        sheet = filled(RememberingStylesheet(variables=colours), css)
        assert len(sheet.rules) == 3
        sheet.copy().reparse()
        sheet.add_source("Button { }", ("there", ""))
        sheet.reparse()
    assert parsed.count(css) == 2


def test_a_faulty_source_leaves_the_rules_as_they_were() -> None:
    sheet = filled(RememberingStylesheet(variables=DAY), CSS)
    before = sheet.css
    sheet.add_source("Label { colour: red; }", ("there", ""))
    with pytest.raises(StylesheetParseError):
        sheet.reparse()
    assert sheet._rules
    assert "\n\n".join(rule.css for rule in sheet._rules) == before
