"""An answer on screen: complete whatever the timing, and no text breaks a row."""

from __future__ import annotations

import asyncio
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from textual.app import App, ComposeResult

from mlxft.chat.answerers import ADAPTER
from mlxft.chat.dialogue import Turn
from mlxft_tui.chat.conversation_view import ConversationView
from mlxft_tui.chat.turn_view import TurnView
from mlxft_tui.text.answer_lines import AnswerLines
from support.session import screen_text

TEXT = """\
# A title

Some **bold** words
on two lines, and `code`.

- one
- two
  - three

1. first
2. second

```python
def f(x):
    return x
```

> said
> twice

| a | b |
|---|---|
| 1 | 2 |
| 3 | 4 |

The end.
"""

CHARACTERS = (
    "*_`~#>-+|[](){}!\\<>&;:.=1ab \n\t\r\x00\x1b\x9b\u202e\u200d\ufe0f\u0301\ud800👩🏽🇩🇪कשم漢"
)

HOSTILE = {
    "sequences": "\x1b]52;c;aGk=\x07\x9b2J\x1b[?1049l &#27;[2J",
    "right to left": "שלום עולם \u202e\u2066 مرحبا بالعالم",
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈👍🏽" * 40 + "é" + "\u0301" * 500,
    "a long line": "x" * 10_000,
    "quotes": ">" * 10_000 + " deep",
    "lists": "- " * 10_000 + "deep",
    "a wide table": "|a" * 500 + "|\n" + "|-" * 500 + "|\n" + "|漢字" * 500,
    "a long table": "|a|b|\n|-|-|\n" + "|x|y|\n" * 2000,
    "an open fence": "```python\n" + "x = 1\n" * 1000,
    "an open thought": "<think>" + "hm\n" * 1000,
}


class AnswerApp(App[None]):
    """A single answer."""

    def compose(self) -> ComposeResult:
        yield TurnView(Turn("Begin"), [(ADAPTER, "adapter")])

    @property
    def turn(self) -> TurnView:
        return self.query_one(TurnView)

    @property
    def answer(self) -> AnswerLines:
        return self.turn.answer(ADAPTER)


class ConversationApp(App[None]):
    """A conversation without the rest of the screen."""

    def compose(self) -> ComposeResult:
        yield ConversationView()


class TestStreaming:
    async def test_the_finished_answer_is_complete(self) -> None:
        app = AnswerApp()
        expected = '{"intent": "message", "text": "I found the tickets"}'
        async with app.run_test() as pilot:
            view, answer = app.turn, app.answer
            answer.write(expected[:-2])
            view.show_new_text()
            answer.finish("done", expected)
            await pilot.pause()
            assert answer.text == expected
            assert screen_text(app).split("\n")[3].strip() == expected

    @pytest.mark.parametrize("size", [3, 11])
    async def test_pieces_look_like_the_whole_text(self, size: int) -> None:
        shown = []
        text = TEXT * 3
        for pieces in ([text], [text[at : at + size] for at in range(0, len(text), size)]):
            app = AnswerApp()
            async with app.run_test(size=(60, 120)) as pilot:
                view, answer = app.turn, app.answer
                for piece in pieces:
                    answer.write(piece)
                    view.show_new_text()
                answer.finish("done", text)
                await pilot.pause()
                shown.append(screen_text(app))
        assert shown[0] == shown[1]

    async def test_growing_text_does_not_scroll_while_there_is_space_below(self) -> None:
        app = ConversationApp()
        async with app.run_test(size=(60, 20)) as pilot:
            conversation = app.query_one(ConversationView)
            view = TurnView(Turn("Begin"), [(ADAPTER, "adapter")])
            await conversation.add(view)
            scrolled = []
            for _ in range(12):
                view.answer(ADAPTER).write("word\n\n")
                view.show_new_text()
                await pilot.pause()
                scrolled.append(conversation.scroll_y)
            assert scrolled[:6] == [0] * 6
            assert scrolled[-1] > 0

    async def test_a_narrower_window_wraps_the_text_again(self) -> None:
        app = AnswerApp()
        async with app.run_test(size=(60, 40)) as pilot:
            answer = app.answer
            answer.finish("done", "one two three")
            await pilot.resize_terminal(9, 40)
            await pilot.pause()
            lines = [line.strip() for line in screen_text(app).split("\n")]
            assert lines[2:6] == ["adapter", "one two", "three", "done"]


class TestHostileText:
    @pytest.mark.parametrize("name", HOSTILE)
    async def test_rows_have_the_right_width_and_no_control_characters(self, name: str) -> None:
        app = AnswerApp()
        async with app.run_test(size=(37, 20)) as pilot:
            view, answer = app.turn, app.answer
            answer.unfold(True)
            answer.write(HOSTILE[name])
            view.show_new_text()
            await pilot.pause()
            rows = [view.render_line(y) for y in range(view.size.height)]
            assert {row.cell_length for row in rows} == {view.size.width}
            text = "".join(row.text for row in rows)
            assert not any(unicodedata.category(each) in ("Cc", "Cs") for each in text)

    @settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(texts=st.lists(st.text(CHARACTERS, max_size=200), min_size=10), width=st.integers(2, 50))
    def test_no_text_breaks_a_row(self, texts: list[str], width: int) -> None:
        asyncio.run(self.check_rows(texts, width))

    async def check_rows(self, texts: list[str], width: int) -> None:
        app = AnswerApp()
        async with app.run_test(size=(width, 30)) as pilot:
            view, answer = app.turn, app.answer
            for text in texts:
                answer.finish("done", text)
                await pilot.pause()
                rows = [view.render_line(y) for y in range(view.size.height)]
                assert {row.cell_length for row in rows} == {view.size.width}
                shown = "".join(row.text for row in rows)
                assert not any(unicodedata.category(each) in ("Cc", "Cs") for each in shown)


class TestSelection:
    async def test_the_mouse_selects_text(self) -> None:
        app = AnswerApp()
        async with app.run_test() as pilot:
            answer = app.answer
            answer.finish("done", "```\none\ntwo\n```")
            await pilot.pause()
            await pilot.mouse_down(offset=(2, 4))
            await pilot.hover(offset=(5, 5))
            await pilot.mouse_up(offset=(5, 5))
            assert app.screen.get_selected_text() == "one\ntwo"
