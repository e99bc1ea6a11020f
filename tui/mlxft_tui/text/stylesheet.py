"""A stylesheet that parses each source once for each set of colours.

Textual parses all sources again whenever a screen brings its own, or the colours are set.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from textual.css.model import RuleSet
from textual.css.stylesheet import Stylesheet
from textual.css.types import CSSLocation

MAX_SOURCES: Final = 512
"""Of all themes; the application has about 70."""


class RememberingStylesheet(Stylesheet):
    """Knows the rules of every source that this process has parsed with the same variables."""

    def __init__(self, *, variables: dict[str, str] | None = None) -> None:
        super().__init__(variables=variables)
        self._named_values = tuple(self._variables.items())

    def set_variables(self, variables: dict[str, str]) -> None:
        super().set_variables(variables)
        self._named_values = tuple(variables.items())

    def reparse(self) -> None:
        """Apply new variables. Raises `StylesheetError` and then keeps the rules it had."""
        self.parse()

    def copy(self) -> RememberingStylesheet:
        stylesheet = RememberingStylesheet(variables=self._variables.copy())
        stylesheet.source = self.source.copy()
        return stylesheet

    def _parse_rules(
        self,
        css: str,
        read_from: CSSLocation,
        is_default_rules: bool = False,
        tie_breaker: int = 0,
        scope: str = "",
    ) -> list[RuleSet]:
        source = (css, read_from, is_default_rules, tie_breaker, scope)
        return _parsed(source, self._named_values)


@lru_cache(MAX_SOURCES)
def _parsed(
    source: tuple[str, CSSLocation, bool, int, str], named_values: tuple[tuple[str, str], ...]
) -> list[RuleSet]:
    return Stylesheet(variables=dict(named_values))._parse_rules(*source)
