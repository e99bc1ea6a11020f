"""One answer as it is written: Markdown that grows, and below it what it cost."""

from __future__ import annotations

import asyncio

from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Markdown, Static

from mlxft.data.printable import printable
from mlxft_tui.dialogue import Side
from mlxft_tui.terminal import is_remote

PAINT_SECONDS = 0.2
REMOTE_PAINT_SECONDS = 0.5
"""Time between two additions to the text on screen."""

SPARE_LINES = 2
"""Lines that one addition may need at once."""


class AnswerView(Vertical):
    """Who answers, what, and a line about how."""

    DEFAULT_CSS = """
    AnswerView {
        height: auto;
        width: 1fr;

        & > .title {
            color: $foreground 60%;
        }
        & > Markdown {
            padding: 0;
            margin: 0;
            background: transparent;
        }
        & > .status {
            color: $foreground 60%;
            margin-top: 0;
        }
        & > .error {
            color: $error;
        }
    }
    """

    def __init__(self, side: Side, title: str) -> None:
        super().__init__(classes=side)
        self._title = title
        self._pending = ""
        self._status = ""
        self._reserved = 0
        self._timer: Timer | None = None
        # Two additions at once would each rewrite the last block, and one would be lost.
        self._painting = asyncio.Lock()

    def compose(self) -> ComposeResult:
        yield Static(Content(self._title), classes="title")
        yield Markdown(parser_factory=line_keeping_parser, open_links=False)
        yield Static(classes="status")

    def on_mount(self) -> None:
        seconds = REMOTE_PAINT_SECONDS if is_remote() else PAINT_SECONDS
        self._timer = self.set_interval(seconds, self._paint)

    def entitle(self, title: str) -> None:
        """Say anew who answers."""
        self.query_one(".title", Static).update(Content(title))

    def write(self, text: str) -> None:
        """Add a piece of the answer; it is shown at the next paint."""
        self._pending += text

    def say(self, status: str) -> None:
        """Say below the text what is going on."""
        if status != self._status:
            self._status = status
            self.query_one(".status", Static).update(Content(printable(status)))

    async def fail(self, problem: str) -> None:
        """Show what has come, and in one sentence why there is no more."""
        self.query_one(".status", Static).add_class("error")
        await self.finish(problem)

    async def finish(self, status: str, text: str | None = None) -> None:
        """Show all of the text, and what it cost; `text` is the whole answer, where it is known."""
        if self._timer is not None:
            self._timer.stop()
        await self._paint(everything=True)
        if text is not None:
            # What grew piece by piece is shown once as a whole: nothing may be missing in it.
            await self.query_one(Markdown).update(printable(text))
        self.query_one(Markdown).styles.min_height = None
        self.say(status)

    async def _paint(self, everything: bool = False) -> None:
        async with self._painting:
            # A carriage return may be the first half of a line's end.
            held = "\r" if self._pending.endswith("\r") and not everything else ""
            text, self._pending = self._pending.removesuffix(held), held
            if text:
                self._reserve()
                await self.query_one(Markdown).append(printable(text))

    def _reserve(self) -> None:
        """Make room some lines ahead: a text that grows line by line moves all above it."""
        markdown = self.query_one(Markdown)
        used = max((block.virtual_region.bottom for block in markdown.children), default=0)
        if used + SPARE_LINES > self._reserved:
            self._reserved = used + SPARE_LINES + max(4, self.screen.size.height // 6)
            markdown.styles.min_height = self._reserved


def line_keeping_parser() -> MarkdownIt:
    """Markdown in which a line's end is a line's end, as models mean it; HTML is text."""
    parser = MarkdownIt("gfm-like", {"html": False})
    parser.core.ruler.push("keep_lines", _keep_lines)
    return parser


def _keep_lines(state: StateCore) -> None:
    for token in state.tokens:
        for child in token.children or ():
            if child.type == "softbreak":
                child.type = "hardbreak"
