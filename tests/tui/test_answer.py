"""An answer on screen: all of it arrives, whatever the timing, and nothing in it breaks a row."""

from __future__ import annotations

import asyncio
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from textual.app import App, ComposeResult

from mlxft.chat.dialogue import Turn
from mlxft_tui.chat.talk_view import TalkView
from mlxft_tui.chat.turn_view import TurnView
from mlxft_tui.text.answer_lines import AnswerLines
from support.synthetic import screen_text

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

SIGNS = "*_`~#>-+|[](){}!\\<>&;:.=1ab \n\t\r\x00\x1b\x9b\u202e\u200d\ufe0f\u0301\ud800👩🏽🇩🇪कשم漢"

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
    """One answer by itself."""

    def compose(self) -> ComposeResult:
        yield TurnView(Turn("Go on"), [("adapter", "adapter")])

    @property
    def turn(self) -> TurnView:
        """The widget."""
        return self.query_one(TurnView)

    @property
    def answer(self) -> AnswerLines:
        """What is written in it."""
        return self.turn.answer("adapter")


class TalkApp(App[None]):
    """A conversation by itself."""

    def compose(self) -> ComposeResult:
        yield TalkView("Welcome")


class TestStreaming:
    async def test_the_end_shows_the_whole_answer_whatever_came_before(self) -> None:
        app = AnswerApp()
        expected = '{"intent": "message", "text": "I found the tickets"}'
        async with app.run_test() as pilot:
            view, answer = app.turn, app.answer
            answer.write(expected[:-2])
            view._paint()
            answer.finish("done", expected)
            await pilot.pause()
            assert answer.text == expected
            assert screen_text(app).split("\n")[3].strip() == expected

    @pytest.mark.parametrize("size", [3, 11])
    async def test_what_came_in_pieces_looks_like_what_came_at_once(self, size: int) -> None:
        shown = []
        text = TEXT * 3
        for pieces in ([text], [text[at : at + size] for at in range(0, len(text), size)]):
            app = AnswerApp()
            async with app.run_test(size=(60, 120)) as pilot:
                view, answer = app.turn, app.answer
                for piece in pieces:
                    answer.write(piece)
                    view._paint()
                answer.finish("done", text)
                await pilot.pause()
                shown.append(screen_text(app))
        assert shown[0] == shown[1]

    async def test_what_has_room_below_it_scrolls_nothing(self) -> None:
        app = TalkApp()
        async with app.run_test(size=(60, 20)) as pilot:
            talk = app.query_one(TalkView)
            view = TurnView(Turn("Go on"), [("adapter", "adapter")])
            await talk.add(view)
            scrolled = []
            for _ in range(12):
                view.answer("adapter").write("word\n\n")
                view._paint()
                await pilot.pause()
                scrolled.append(talk.scroll_y)
            assert scrolled[:6] == [0] * 6
            assert scrolled[-1] > 0

    async def test_a_narrower_window_lays_it_out_anew(self) -> None:
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
    async def test_every_row_is_as_wide_as_the_widget_and_holds_no_control_character(
        self, name: str
    ) -> None:
        app = AnswerApp()
        async with app.run_test(size=(37, 20)) as pilot:
            view, answer = app.turn, app.answer
            answer.unfold(True)
            answer.write(HOSTILE[name])
            view._paint()
            await pilot.pause()
            rows = [view.render_line(y) for y in range(view.size.height)]
            assert {row.cell_length for row in rows} == {view.size.width}
            text = "".join(row.text for row in rows)
            assert not any(unicodedata.category(each) in ("Cc", "Cs") for each in text)

    @settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(texts=st.lists(st.text(SIGNS, max_size=200), min_size=10), width=st.integers(2, 50))
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
    async def test_the_mouse_selects_the_text_of_its_rows(self) -> None:
        app = AnswerApp()
        async with app.run_test() as pilot:
            answer = app.answer
            answer.finish("done", "```\none\ntwo\n```")
            await pilot.pause()
            await pilot.mouse_down(offset=(2, 4))
            await pilot.hover(offset=(5, 5))
            await pilot.mouse_up(offset=(5, 5))
            assert app.screen.get_selected_text() == "one\ntwo"
