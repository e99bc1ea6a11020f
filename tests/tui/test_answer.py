"""An answer on screen: all of it arrives, whatever the timing."""

from __future__ import annotations

import asyncio

from textual.app import App, ComposeResult
from textual.widgets import Markdown

from mlxft_tui.widgets.answer import AnswerView


class AnswerApp(App[None]):
    """One answer by itself."""

    def compose(self) -> ComposeResult:
        yield AnswerView("adapter", "adapter")


class TestStreaming:
    async def test_the_end_shows_the_whole_answer_whatever_came_before(self) -> None:
        app = AnswerApp()
        expected = '{"intent": "message", "text": "I found the tickets"}'
        async with app.run_test():
            view = app.query_one(AnswerView)
            view.write(expected[:-2])
            painting = asyncio.create_task(view._paint())
            await view.finish("done", expected)
            await painting
            assert app.query_one(Markdown).source == expected
            (paragraph,) = app.query_one(Markdown).children
            assert str(paragraph.render()).strip() == expected
