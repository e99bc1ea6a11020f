"""Keys of a line that is written in, in the order in which they were pressed.

Textual puts characters into an input at once, but lets a bound key go up to the application first;
of several keys that come together, as over a slow link, characters would overtake a backspace.
"""

from __future__ import annotations

from textual import events
from textual.widget import Widget
from textual.widgets import Input

from mlxft_tui.widgets.remappable import bindings_of


async def run_own_binding(widget: Widget, event: events.Key) -> None:
    """Run what a key is bound to in the widget itself, as the key comes."""
    for binding in bindings_of(widget, event.key):
        if await widget.app.run_action(binding.action, widget):
            event.stop()
            event.prevent_default()
            return


class OrderedInput(Input):
    """A line in which keys keep their order."""

    async def _on_key(self, event: events.Key) -> None:
        await run_own_binding(self, event)
