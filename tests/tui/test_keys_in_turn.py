"""Keys that come together go where the one before them put the focus."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.keys import _character_to_key
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input

from mlxft_tui.chat.prompt_input import PromptInput
from mlxft_tui.recipe.form import ROWS, RecipeForm, RecipeRows
from mlxft_tui.terminal import keys_in_turn
from mlxft_tui.terminal.keys_in_turn import KeysInTurn
from support.quiet import Opened, session, settled


def read_together(app: KeysInTurn, *keys: str) -> None:
    """Let the application read keys in one go, as of one write."""
    for key in keys:
        single = len(key) == 1
        name = _character_to_key(key) if single else key
        app.post_message(events.Key(name, key if single else None))


async def until_handed_on(app: KeysInTurn, pilot: Any) -> None:
    """Wait until no key waits."""
    async with asyncio.timeout(20):
        while app._under_way or app._waiting:
            await pilot.pause()
    await pilot.pause()


class TestKeysThatComeTogether:
    async def test_after_the_one_that_opens_the_search_are_searched_for(
        self, opened: Opened
    ) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            read_together(app, *"/q2?")
            await until_handed_on(app, pilot)
            assert app.is_running
            assert app.screen.query_one("AskLine Input", Input).value == "q2?"

    async def test_after_the_one_that_opens_a_value_are_its_text(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            await pilot.press("2")
            names = [row.parameter.key if row.parameter else "" for row in ROWS]
            app.screen.query_one(RecipeRows).cursor = names.index("data")
            read_together(app, "enter", *"t2q")
            await until_handed_on(app, pilot)
            value = app.screen.query_one(RecipeForm).query_one(Input)
            assert value.display
            assert value.value == "t2q"
            assert session(app).launched == []
            read_together(app, "escape", "2", "1", "/", "t")
            await until_handed_on(app, pilot)
            assert app.current_mode == "data"
            assert app.screen.query_one("AskLine Input", Input).value == "t"

    async def test_after_the_one_that_goes_to_the_chat_are_written_there(
        self, opened: Opened
    ) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            read_together(app, "4", *"hi q1", "escape", "j", "enter", *"qq")
            await until_handed_on(app, pilot)
            assert app.is_running
            assert app.current_mode == "chat"
            assert app.screen.query_one(PromptInput).text == "hi q1qq"

    async def test_are_in_their_order_with_what_is_pasted(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            read_together(app, "/", "a")
            app.post_message(events.Paste("bcd"))
            read_together(app, "backspace", "e")
            await until_handed_on(app, pilot)
            assert app.screen.query_one("AskLine Input", Input).value == "abce"

    async def test_after_the_one_that_opens_a_sheet_are_that_sheets(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            read_together(app, "?", "escape", "/", "q")
            await until_handed_on(app, pilot)
            assert app.is_running
            assert app.screen.query_one("AskLine Input", Input).value == "q"


class Slow(Widget, can_focus=True):
    """Never comes back from one key, and has another take it away."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("x", "vanish")]

    class Held(Message):
        """Its handler waits for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.released = asyncio.Event()

    async def on_key(self, event: events.Key) -> None:
        if event.key == "w":
            event.stop()
            await self.released.wait()

    def action_vanish(self) -> None:
        self.remove()


class Watched(KeysInTurn):
    """Notes the keys that reach it."""

    AUTO_FOCUS = "Slow"

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[str] = []

    def compose(self) -> ComposeResult:
        yield Slow()

    def on_key(self, event: events.Key) -> None:
        self.keys.append(event.key)


class TestAKeyThatIsNotHandledInTime:
    async def test_holds_up_no_other_for_ever(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(keys_in_turn, "TICK_SECONDS", 0.001)
        app = Watched()
        async with app.run_test() as pilot:
            slow = app.query_one(Slow)
            read_together(app, "w", "a", "b")
            async with asyncio.timeout(20):
                while app._waiting:
                    await asyncio.sleep(0)
            slow.released.set()
            await until_handed_on(app, pilot)
            assert app.keys == ["a", "b"]

    async def test_is_not_waited_for_where_its_widget_has_gone(self) -> None:
        app = Watched()
        async with app.run_test() as pilot:
            read_together(app, "x", "a")
            await until_handed_on(app, pilot)
            read_together(app, "b")
            await until_handed_on(app, pilot)
            assert app.keys == ["x", "a", "b"]
