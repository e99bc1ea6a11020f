"""The chat screen, talking over a real socket to an engine whose answers are scripted."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Markdown, Static

from mlxft import recipe as recipes
from mlxft.conversation import Message
from mlxft.engine.protocol import Chat, OpenModel
from mlxft.recipe import Recipe
from mlxft.runs.view import State
from mlxft_tui.screens.chat import ChatScreen
from mlxft_tui.session import Session
from mlxft_tui.widgets.answer import AnswerView
from mlxft_tui.widgets.prompt_input import PromptInput
from mlxft_tui.widgets.turn_view import TurnView
from scripted_engine import ScriptedEngine, scripted_session
from synthetic import (
    RECIPE,
    PlaceApp,
    finished,
    followed,
    preparation,
    screen_text,
    training,
    view_of,
)

PROMPT = "Request to JSON: Add 6 peaches"
EXPECTED = '{"item": "peaches", "quantity": 6}'
BASE = "Sure! Here is how to add peaches:\n- open the list\n- write them down"


def answer(chat: Chat) -> str:
    """As a base model and a tuned one would; who answers is told by the question or the folder."""
    tuned = chat.question.use_adapter if chat.adapter is None else True
    return EXPECTED if tuned else BASE


@dataclass
class Talk:
    """A chat screen under a pilot, and the engine it talks to."""

    app: PlaceApp
    pilot: Pilot[None]
    engine: ScriptedEngine

    async def ask(self, text: str = PROMPT) -> None:
        """Type a prompt and wait for the answer's end."""
        line = self.app.screen.query_one(PromptInput)
        line.load_text(text)
        await self.pilot.press("enter")
        await self.answered()

    async def answered(self) -> None:
        """Wait until nobody writes."""
        await self.pilot.pause()
        await self.app.workers.wait_for_complete()
        await self.pilot.pause()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the application work until the condition holds."""
        async with asyncio.timeout(10):
            while not condition():
                await self.pilot.pause()

    @property
    def answers(self) -> list[str]:
        """The Markdown of each answer on screen."""
        return [view.source for view in self.app.screen.query(Markdown)]

    @property
    def statuses(self) -> list[str]:
        """The line below each answer."""
        return [
            str(view.visual) for view in self.app.screen.query("AnswerView .status").results(Static)
        ]


@asynccontextmanager
async def talking(
    folder: Path,
    state: State | None = "running",
    recipe: Recipe = RECIPE,
    size: tuple[int, int] = (120, 40),
    answer: Callable[[Chat], str] = answer,
) -> AsyncIterator[Talk]:
    """A chat screen that follows a run in that state, or none."""
    socket = Path(os.environ["MLXFT_RUNTIME"]) / "scripted.sock"
    events = [*preparation(), *training(60)]
    if state == "finished":
        events.append(finished())
    run = followed(folder, view_of(events), state, recipe) if state else None
    async with scripted_session(folder, socket, answer) as (session, engine):
        app = PlaceApp(ChatScreen(session), recipe=RECIPE, run=run)
        async with app.run_test(size=size, notifications=True) as pilot:
            await pilot.pause()
            yield Talk(app, pilot, engine)
            app.workers.cancel_all()


def with_adapter(folder: Path) -> Path:
    """The folder with the synthetic run's adapter file in it."""
    path = folder / "adapters" / "SmolLM2-135M-Instruct-lora-1"
    path.mkdir(parents=True)
    (path / "adapters.safetensors").touch()
    return path


def with_examples(folder: Path) -> None:
    (folder / "data").mkdir()
    records = [
        {"prompt": PROMPT, "completion": EXPECTED},
        {"prompt": "Request to JSON: Wake me at 7", "completion": '{"time": "7:00"}'},
    ]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "data" / "test.jsonl").write_text(lines)


class TestAsking:
    async def test_while_training_the_adapter_in_memory_answers(self, tmp_path: Path) -> None:
        async with talking(tmp_path) as talk:
            await talk.ask()
            assert talk.answers == [EXPECTED]
            (chat,) = talk.engine.asked
            assert isinstance(chat, Chat)
            assert chat.question.messages == (Message("user", PROMPT),)
            assert chat.question.use_adapter
            assert chat.adapter is None

    async def test_a_finished_run_is_answered_for_by_the_model_service(
        self, tmp_path: Path
    ) -> None:
        folder = with_adapter(tmp_path)
        async with talking(tmp_path, "finished") as talk:
            await talk.ask()
            (chat,) = talk.engine.asked
            assert isinstance(chat, Chat)
            assert chat.adapter == str(folder)

    async def test_without_a_run_the_base_answers(self, tmp_path: Path) -> None:
        async with talking(tmp_path, None) as talk:
            await talk.ask()
            assert talk.answers == [BASE]
            await talk.pilot.press("ctrl+t")
            await talk.pilot.pause()
            assert "There is no adapter yet" in screen_text(talk.app)

    async def test_a_run_of_another_model_has_that_model_opened_first(self, tmp_path: Path) -> None:
        with_adapter(tmp_path)
        other = recipes.replace(RECIPE, "model", "another/model")
        async with talking(tmp_path, "finished", other) as talk:
            await talk.ask()
            assert talk.engine.asked[0] == OpenModel("another/model")

    async def test_what_it_cost_stands_below(self, tmp_path: Path) -> None:
        async with talking(tmp_path) as talk:
            await talk.ask()
            assert talk.statuses == ["4 tokens  41.5 tok/s  prompt 31 at 812  1.3 s"]

    async def test_the_conversation_goes_on(self, tmp_path: Path) -> None:
        async with talking(tmp_path) as talk:
            await talk.ask("Hello")
            await talk.ask("And now?")
            chat = talk.engine.asked[1]
            assert isinstance(chat, Chat)
            assert [each.role for each in chat.question.messages] == ["user", "assistant", "user"]

    async def test_a_refusal_is_a_sentence_and_the_way_on(self, tmp_path: Path) -> None:
        async with talking(tmp_path) as talk:
            talk.engine.refuses = "The run is not training yet."
            await talk.ask()
            assert talk.statuses == ["The run is not training yet. ctrl+r asks again."]
            talk.engine.refuses = None
            await talk.pilot.press("ctrl+r")
            await talk.answered()
            assert talk.answers == [EXPECTED]


class TestSides:
    async def test_ctrl_t_lets_the_base_answer(self, tmp_path: Path) -> None:
        async with talking(tmp_path) as talk:
            await talk.pilot.press("ctrl+t")
            await talk.ask()
            assert talk.answers == [BASE]

    async def test_both_answer_the_same_prompt_side_by_side(self, tmp_path: Path) -> None:
        async with talking(tmp_path) as talk:
            await talk.pilot.press("ctrl+b")
            await talk.ask()
            assert talk.answers == [BASE, EXPECTED]
            base, tuned = talk.app.screen.query(AnswerView)
            assert base.region.y == tuned.region.y
            assert base.region.right <= tuned.region.x

    async def test_retry_asks_whoever_is_chosen_now(self, tmp_path: Path) -> None:
        async with talking(tmp_path) as talk:
            await talk.ask()
            await talk.pilot.press("ctrl+t", "ctrl+r")
            await talk.answered()
            assert talk.answers == [BASE]
            assert len(talk.app.screen.query(TurnView)) == 1


class TestStopping:
    async def test_esc_ends_the_answer_and_keeps_what_has_come(self, tmp_path: Path) -> None:
        async with talking(tmp_path) as talk:
            talk.engine.holds = asyncio.Event()
            line = talk.app.screen.query_one(PromptInput)
            line.load_text(PROMPT)
            await talk.pilot.press("enter")
            await talk.until(lambda: talk.answers == ['{"item":'])
            await talk.pilot.press("escape")
            await talk.answered()
            assert talk.answers == ['{"item":']
            assert talk.statuses[0].endswith("stopped")

    async def test_esc_also_keeps_the_second_side_from_starting(self, tmp_path: Path) -> None:
        async with talking(tmp_path) as talk:
            talk.engine.holds = asyncio.Event()
            await talk.pilot.press("ctrl+b")
            talk.app.screen.query_one(PromptInput).load_text(PROMPT)
            await talk.pilot.press("enter")
            await talk.until(lambda: bool(talk.answers and talk.answers[0]))
            await talk.pilot.press("escape")
            await talk.answered()
            assert len(talk.engine.asked) == 1

    async def test_clear_begins_a_new_conversation(self, tmp_path: Path) -> None:
        async with talking(tmp_path) as talk:
            await talk.ask("Hello")
            await talk.pilot.press("ctrl+l")
            await talk.ask("And now?")
            chat = talk.engine.asked[1]
            assert isinstance(chat, Chat)
            assert chat.question.messages == (Message("user", "And now?"),)


class TestExamples:
    async def test_the_prompt_comes_with_the_answer_it_expects(self, tmp_path: Path) -> None:
        with_examples(tmp_path)
        async with talking(tmp_path) as talk:
            await talk.pilot.press("ctrl+n")
            await talk.pilot.pause()
            assert talk.app.screen.query_one(PromptInput).text == PROMPT
            assert "test.jsonl line 1 expects" in screen_text(talk.app)
            await talk.pilot.press("enter")
            await talk.answered()
            assert talk.statuses[0].startswith("✓ as expected")
            assert EXPECTED in screen_text(talk.app)

    async def test_the_next_one_comes_next_and_after_the_last_the_first(
        self, tmp_path: Path
    ) -> None:
        with_examples(tmp_path)
        async with talking(tmp_path) as talk:
            prompts = []
            for _ in range(3):
                await talk.pilot.press("ctrl+n")
                prompts.append(talk.app.screen.query_one(PromptInput).text)
            assert prompts == [PROMPT, "Request to JSON: Wake me at 7", PROMPT]

    async def test_without_any_a_sentence_says_so(self, tmp_path: Path) -> None:
        async with talking(tmp_path) as talk:
            await talk.pilot.press("ctrl+n")
            await talk.pilot.pause()
            assert "neither test.jsonl" in screen_text(talk.app)


class TestKeys:
    async def test_digits_are_text_in_the_line_and_places_outside(self, tmp_path: Path) -> None:
        async with talking(tmp_path) as talk:
            await talk.pilot.press("3", "1")
            assert talk.app.screen.query_one(PromptInput).text == "31"
            await talk.pilot.press("f3")
            assert talk.app.gone == ["train"]
            await talk.pilot.press("escape", "1")
            assert talk.app.gone == ["train", "data"]
            await talk.pilot.press("enter", "2")
            assert talk.app.screen.query_one(PromptInput).text == "312"

    async def test_ctrl_j_begins_a_new_line(self, tmp_path: Path) -> None:
        async with talking(tmp_path) as talk:
            await talk.pilot.press("a", "ctrl+j", "b")
            assert talk.app.screen.query_one(PromptInput).text == "a\nb"


class TestForeignText:
    async def test_escape_sequences_of_the_model_are_shown_not_obeyed(self, tmp_path: Path) -> None:
        def hostile(chat: Chat) -> str:
            return "\x1b[2J\x1b]0;gone\x07 \u202egnorw <b>bold</b> [red]"

        async with talking(tmp_path, answer=hostile) as talk:
            await talk.ask("Hello \x1b[31mred\x9b")
            shown = screen_text(talk.app)
            assert "␛[2J" in shown
            assert "<b>bold</b> [red]" in shown
            assert not any(
                ord(each) < 32 or 0x7F <= ord(each) < 0xA0 for each in shown if each != "\n"
            )

    async def test_lines_end_where_the_model_ends_them(self, tmp_path: Path) -> None:
        async with talking(tmp_path, answer=lambda chat: "one\ntwo\r\nthree") as talk:
            await talk.ask("Count")
            lines = [line.strip() for line in screen_text(talk.app).splitlines()]
            assert [line for line in lines if line in ("one", "two", "three")] == [
                "one",
                "two",
                "three",
            ]

    async def test_a_very_long_line_is_wrapped(self, tmp_path: Path) -> None:
        async with talking(tmp_path, answer=lambda chat: "x" * 10_000) as talk:
            await talk.ask("Go on")
            assert talk.answers == ["x" * 10_000]


class TestLooks:
    @pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
    def test_empty(self, snap_compare: Callable[..., bool], size: tuple[int, int]) -> None:
        run = followed(Path("/project"), view_of([*preparation(), *training(60)]), "running")
        app = PlaceApp(ChatScreen(Session(Path("/project"))), recipe=RECIPE, run=run)
        assert snap_compare(app, terminal_size=size)

    @pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
    def test_side_by_side(self, snap_compare: Callable[..., bool], size: tuple[int, int]) -> None:
        assert snap_compare(SideBySide(), terminal_size=size, run_before=SideBySide.talk)


class SideBySide(PlaceApp):
    """A conversation in which both sides have answered an example."""

    def __init__(self) -> None:
        run = followed(Path("/project"), view_of([*preparation(), *training(60)]), "running")
        super().__init__(ChatScreen(Session(Path("/project"))), recipe=RECIPE, run=run)

    @staticmethod
    async def talk(pilot: Pilot[Any]) -> None:
        """Have the answers written without an engine."""
        from mlxft_tui.dialogue import Example, Turn

        example = Example((Message("user", PROMPT),), EXPECTED, "test.jsonl line 1")
        view = TurnView(Turn(PROMPT, example), [("base", "base"), ("adapter", "adapter · step 60")])
        screen = pilot.app.screen
        screen.query_one("#welcome").display = False
        await screen.query_one("#talk").mount(view)
        view.answer("base").write(BASE)
        await view.answer("base").finish("21 tokens  38.2 tok/s  prompt 31 at 812  1.1 s")
        view.answer("adapter").write(EXPECTED)
        await view.answer("adapter").finish("✓ as expected  14 tokens  38.2 tok/s")
        await pilot.pause()
