"""The line that starts a run, by key or click."""

from __future__ import annotations

from textual import events
from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from mlxft_tui.text.theme import MUTED
from mlxft_tui.widgets.remappable import shown_key


class StartLine(Widget):
    """A button, or the reason why no run can be started."""

    DEFAULT_CSS = """
    StartLine {
        height: 1;
        content-align: center middle;
        background: $primary 25%;
        color: $foreground;
    }
    StartLine:hover {
        background: $primary 40%;
    }
    StartLine.-hindered, StartLine.-hindered:hover {
        background: $panel;
    }
    """
    ALLOW_SELECT = False

    hindrance: reactive[str] = reactive("")
    """Why no run can be started now; empty if one can."""

    def render(self) -> Content:
        if self.hindrance:
            return Content.styled(self.hindrance, MUTED)
        key = shown_key(self, "recipe.train", "t")
        return Content.assemble((key, "bold underline"), ("  Start training", "bold"))

    def watch_hindrance(self, hindrance: str) -> None:
        self.set_class(bool(hindrance), "-hindered")

    async def on_click(self, event: events.Click) -> None:
        event.stop()
        await self.run_action("screen.train")
