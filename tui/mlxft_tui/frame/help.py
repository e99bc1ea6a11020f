"""The help dialog: what the focused pane is for, and every key that works here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.dom import DOMNode
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from mlxft_tui.widgets.remappable import Remappable, in_declared_order, shown_key, with_keys

_KEY_CELLS = 16
_HIDDEN_KEYS = ("ctrl+c", "super+c")
"""Textual's own copy keys, not worth a line."""
_HIDDEN_IDS = ("list.choose",)
"""The enter key of lists in which nothing is chosen; others describe what it does there."""
_HIDDEN_ACTIONS = ("scroll_left", "scroll_right", "page_left", "page_right")
"""Textual's keys for panes wider than the screen, which ours never are."""


class HelpScreen(Remappable, ModalScreen[None], keys="help"):
    """Keys grouped by where they work: this screen, the focused pane, everywhere."""

    CSS_PATH = "help.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q", "dismiss", "Close", key_display="esc", id="close"),
    ]

    def __init__(self, described: Screen[object]) -> None:
        super().__init__()
        self._described = described

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="help") as scroll:
            scroll.border_title = "Help"
            scroll.border_subtitle = f"{shown_key(self, 'help.close', 'escape')} close"
            yield Static(self._content(), markup=False)

    def _content(self) -> Content:
        sections: dict[str, dict[tuple[str, str], list[str]]] = {}
        for node, binding, _, _ in in_declared_order(self._described.active_bindings.values()):
            if not _is_listed(binding):
                continue
            keys = sections.setdefault(_section(node), {})
            # The key bar's display may stand for several keys, such as ←→.
            display = self.app.get_key_display(replace(binding, key_display=None))
            explained = binding.tooltip or binding.description.capitalize()
            keys.setdefault((binding.action, explained), []).append(display)
        return Content("\n\n").join([*self._purpose(), *_tables(sections)])

    def _purpose(self) -> Iterable[Content]:
        focused = self._described.focused
        for node in (focused, self._described):
            if node is not None and node.HELP:
                yield Content(with_keys(node, " ".join(node.HELP.split())))


def _is_listed(binding: Binding) -> bool:
    return bool(
        binding.description
        and not binding.system
        and binding.key not in _HIDDEN_KEYS
        and binding.action not in _HIDDEN_ACTIONS
        and binding.id not in _HIDDEN_IDS
    )


def _section(node: DOMNode) -> str:
    if isinstance(node, App):
        return "Everywhere"
    return "This screen" if isinstance(node, Screen) else "This pane"


def _tables(sections: dict[str, dict[tuple[str, str], list[str]]]) -> Iterable[Content]:
    for title in ("This screen", "This pane", "Everywhere"):
        if title in sections:
            rows = [
                Content.assemble(
                    (" ".join(keys).ljust(_KEY_CELLS), "bold $primary"), " ", explained
                )
                for (_, explained), keys in sections[title].items()
            ]
            yield Content("\n").join([Content.styled(title, "bold $accent"), *rows])
