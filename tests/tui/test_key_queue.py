"""Keys that arrive together go to the widget focused by the previous one."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any, ClassVar

import pytest
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.keys import _character_to_key
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input

from mlxft.chat.answerers import BASE, Answerer
from mlxft_tui.chat.model_choice import ModelChoice
from mlxft_tui.chat.prompt_input import PromptInput
from mlxft_tui.recipe.form import ROWS, RecipeForm, RecipeRows
from mlxft_tui.terminal import key_queue
from mlxft_tui.terminal.key_queue import KeyQueueApp
from support.session import Opened, session, settled


def press_together(app: KeyQueueApp, *keys: str) -> None:
    """Post keys at once, as if they came in one read."""
    for key in keys:
        single = len(key) == 1
        name = _character_to_key(key) if single else key
        app.post_message(events.Key(name, key if single else None))


async def all_handled(app: KeyQueueApp, pilot: Any) -> None:
    """Wait until every key has been handled."""
    received = asyncio.Event()
    app.call_later(received.set)
    async with asyncio.timeout(20):
        await received.wait()
        while app.handling_keys:
            await pilot.pause()
    await pilot.pause()


class TestKeysPressedTogether:
    async def test_keys_after_the_search_key_are_searched_for(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            press_together(app, *"/q2?")
            await all_handled(app, pilot)
            assert app.is_running
            assert app.screen.query_one("AskLine Input", Input).value == "q2?"

    async def test_keys_after_enter_edit_the_value(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            await pilot.press("2")
            names = [row.parameter.key if row.parameter else "" for row in ROWS]
            app.screen.query_one(RecipeRows).cursor = names.index("data")
            press_together(app, "enter", *"t2q")
            await all_handled(app, pilot)
            value = app.screen.query_one(RecipeForm).query_one(Input)
            assert value.display
            assert value.value == "t2q"
            assert session(app).launched == []
            press_together(app, "escape", "2", "1", "/", "t")
            await all_handled(app, pilot)
            assert app.current_mode == "data"
            assert app.screen.query_one("AskLine Input", Input).value == "t"

    async def test_keys_after_a_screen_key_go_to_that_screen(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            press_together(app, "4", *"hi q1", "escape", "j", "enter", *"qq")
            await all_handled(app, pilot)
            assert app.is_running
            assert app.current_mode == "chat"
            assert app.screen.query_one(PromptInput).text == "hi q1qq"

    async def test_keys_and_pastes_keep_their_order(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            press_together(app, "/", "a")
            app.post_message(events.Paste("bcd"))
            press_together(app, "backspace", "e")
            await all_handled(app, pilot)
            assert app.screen.query_one("AskLine Input", Input).value == "abce"

    async def test_keys_after_one_that_opens_a_dialog_go_to_the_dialog(
        self, opened: Opened
    ) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            press_together(app, "?", "escape", "/", "q")
            await all_handled(app, pilot)
            assert app.is_running
            assert app.screen.query_one("AskLine Input", Input).value == "q"

    async def test_keys_after_one_that_reads_before_it_opens_a_dialog_go_to_the_dialog(
        self, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        app, may_read = opened(), threading.Event()

        def available(_: ModelChoice) -> list[tuple[Answerer, str]]:
            may_read.wait(20)
            return [(BASE, "base model")]

        monkeypatch.setattr(ModelChoice, "available", available)
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            press_together(app, "4", "escape", "o", "escape", "i", *"oq")
            async with asyncio.timeout(20):
                while app.queued_keys != 4:
                    await asyncio.sleep(0)
            may_read.set()
            await all_handled(app, pilot)
            assert app.is_running
            assert app.screen.query_one(PromptInput).text == "oq"


def work(seconds: float) -> None:
    """Take processor time, however busy the machine is."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


class Passed(Message):
    """Sent again some times until the focus moves."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times


class Slow(Widget, can_focus=True):
    """Blocks on w, has the focus moved on y, after work, and on z, and removes itself on x."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("x", "remove_self")]

    def __init__(self) -> None:
        super().__init__()
        self.released = asyncio.Event()

    async def on_key(self, event: events.Key) -> None:
        if event.key == "w":
            event.stop()
            await self.released.wait()
        elif event.key == "y":
            for _ in range(5 * key_queue.MAX_TICKS):
                work(0.002)
                await asyncio.sleep(0)
            self.send(0)
        elif event.key == "z":
            self.send(10)

    def send(self, times: int) -> None:
        self.post_message(Passed(times))

    def action_remove_self(self) -> None:
        self.remove()


class Recorder(KeyQueueApp):
    """Records the keys that reach it."""

    AUTO_FOCUS = "Slow"

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[str] = []

    def compose(self) -> ComposeResult:
        yield Slow()

    def on_key(self, event: events.Key) -> None:
        self.keys.append(event.key)


class WithInput(Recorder):
    """Focuses its input at the last of several messages."""

    def compose(self) -> ComposeResult:
        yield from super().compose()
        yield Input()

    def on_passed(self, message: Passed) -> None:
        if message.times:
            slow = self.query_one(Slow)
            slow.call_later(slow.send, message.times - 1)
        else:
            self.query_one(Input).focus()


class TestSlowKey:
    @pytest.mark.parametrize("key", ["y", "z"])
    async def test_later_keys_go_where_it_moves_the_focus(
        self, monkeypatch: pytest.MonkeyPatch, key: str
    ) -> None:
        monkeypatch.setattr(key_queue, "TICK_SECONDS", 0.001)
        app = WithInput()
        async with app.run_test() as pilot:
            press_together(app, key, *"ab")
            await all_handled(app, pilot)
            assert app.query_one(Input).value == "ab"


class TestUnhandledKey:
    async def test_it_does_not_block_later_keys_forever(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(key_queue, "TICK_SECONDS", 0.001)
        app = Recorder()
        async with app.run_test() as pilot:
            slow = app.query_one(Slow)
            press_together(app, "w", "a", "b")
            async with asyncio.timeout(20):
                while app.queued_keys:
                    await asyncio.sleep(0)
            slow.released.set()
            await all_handled(app, pilot)
            assert app.keys == ["a", "b"]

    async def test_it_is_not_waited_for_after_its_widget_is_removed(self) -> None:
        app = Recorder()
        async with app.run_test() as pilot:
            press_together(app, "x", "a")
            await all_handled(app, pilot)
            press_together(app, "b")
            await all_handled(app, pilot)
            assert app.keys == ["x", "a", "b"]
