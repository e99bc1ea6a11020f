"""An input that handles keys in the order they were pressed.

Textual inserts characters at once but sends bound keys up to the application first, so when several
keys arrive together, as on a slow link, characters would overtake a backspace.
"""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.binding import BindingType
from textual.widget import Widget
from textual.widgets import Input

from mlxft_tui.widgets.remappable import bindings_of


async def run_own_binding(widget: Widget, event: events.Key) -> None:
    """Run the widget's own binding for a key immediately."""
    for binding in bindings_of(widget, event.key):
        if await widget.app.run_action(binding.action, widget):
            event.stop()
            event.prevent_default()
            return


class OrderedInput(Input, inherit_bindings=False):
    """An input in which keys keep their order."""

    # Without the keys that scroll, which do nothing in a line and hide what they do around it.
    BINDINGS: ClassVar[list[BindingType]] = [*Input.BINDINGS]

    async def _on_key(self, event: events.Key) -> None:
        await run_own_binding(self, event)
