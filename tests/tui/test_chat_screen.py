"""The chat screen, talking over a real socket to an engine whose answers are scripted."""

from __future__ import annotations

import asyncio
import json
import os
import unicodedata
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.pilot import Pilot
from textual.widgets import Input, Static

from mlxft import recipe as recipes
from mlxft.chat import history
from mlxft.chat.dialogue import Turn
from mlxft.conversation.messages import Message, Sampling
from mlxft.conversation.scores import Case, evaluation, judged
from mlxft.data.examples import Example
from mlxft.data.validation import problems
from mlxft.engine.protocol import Chat, Evaluate, ModelOpened, OpenModel, SideBySide
from mlxft.paths import sample_data
from mlxft.recipe import Recipe
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory
from mlxft.runs.events import AnyEvent
from mlxft.runs.view import State
from mlxft_tui.chat.answerers import AnswererDialog
from mlxft_tui.chat.prompt_input import PromptInput
from mlxft_tui.chat.screen import ChatScreen
from mlxft_tui.chat.talk_view import TalkView
from mlxft_tui.chat.turn_view import APART, TurnView
from mlxft_tui.cli import evaluate
from mlxft_tui.session import Session
from mlxft_tui.text.answer_lines import AnswerLines
from support.scripted_engine import ScriptedEngine, scripted_session
from support.synthetic import (
    RECIPE,
    START,
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

EVALUATION = evaluation(
    "test",
    1,
    10,
    [("base", 2.0), ("adapter", 0.5)],
    [
        Case(
            "test.jsonl line 1",
            PROMPT,
            EXPECTED,
            (judged(BASE, EXPECTED), judged(EXPECTED, EXPECTED)),
        )
    ],
)


@pytest.fixture(autouse=True)
def a_standing_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands a second after the synthetic run's 60th step."""
    monkeypatch.setattr(ChatScreen, "clock", staticmethod(lambda: START + 25))


def chats(talk: Talk) -> list[Chat]:
    """What single sides were asked."""
    return [each for each in talk.engine.asked if isinstance(each, Chat)]


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

    @property
    def place(self) -> ChatScreen:
        """The chat screen."""
        assert isinstance(self.app.place, ChatScreen)
        return self.app.place

    async def ask(self, text: str = PROMPT) -> None:
        """Type a prompt and wait for the answer's end."""
        line = self.app.screen.query_one(PromptInput)
        line.load_text(text)
        await self.pilot.press("enter")
        await self.answered()

    async def choose(self, *keys: str) -> None:
        """Open the sheet of who answers, and press keys in it up to its end."""
        await self.pilot.press("escape", "o")
        await self.until(lambda: isinstance(self.app.screen, AnswererDialog))
        await self.pilot.press(*keys, *(["enter"] if keys else []))
        await self.pilot.pause()

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
        """The text of each answer on screen."""
        return [each.text for each in self._answers]

    @property
    def statuses(self) -> list[str]:
        """The line below each answer."""
        return [each.status for each in self._answers]

    @property
    def _answers(self) -> list[AnswerLines]:
        return [each for view in self.app.screen.query(TurnView) for each in view.answers]


@asynccontextmanager
async def talking(
    folder: Path,
    state: State | None = "running",
    recipe: Recipe = RECIPE,
    size: tuple[int, int] = (120, 40),
    answer: Callable[[Chat], str] = answer,
    steps: int = 60,
    then: Sequence[AnyEvent] = (),
) -> AsyncIterator[Talk]:
    """A chat screen that follows a run in that state, or none."""
    socket = Path(os.environ["MLXFT_RUNTIME"]) / "scripted.sock"
    events = [*preparation(), *training(steps), *then]
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

    async def test_a_run_of_another_model_is_asked_of_that_model_as_its_makers_advise(
        self, tmp_path: Path
    ) -> None:
        with_adapter(tmp_path)
        other = recipes.replace(RECIPE, "model", "another/model")
        async with talking(tmp_path, "finished", other) as talk:
            talk.engine.opens = ModelOpened(
                id=0,
                path="/models/another",
                config={},
                has_chat_template=False,
                backend=ev.BackendReady(device="x86_64", kind="cpu"),
                sampling=Sampling(temperature=0.6),
            )
            await talk.ask()
            opening, chat = talk.engine.asked
            assert opening == OpenModel("another/model")
            assert isinstance(chat, Chat)
            assert chat.question.sampling == Sampling(temperature=0.6)
            assert "no chat template" in screen_text(talk.app)
            talk.place.on_screen_suspend()
            await talk.answered()
            assert talk.engine.asked[-1] == OpenModel(RECIPE.model)

    async def test_what_it_cost_stands_below(self, tmp_path: Path) -> None:
        async with talking(tmp_path) as talk:
            await talk.ask()
            assert talk.statuses == ["4 tokens in 1.3 s, 41.5 tok/s  prompt 31, 812 tok/s"]

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


class TestCost:
    async def test_the_run_bar_tells_how_long_the_run_has_been_waiting(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ChatScreen, "clock", staticmethod(lambda: START + 40))
        waits = ev.ProgressMade(stage="answering", done=0)
        async with talking(tmp_path, then=[waits]) as talk:
            assert "RUNNING  answering 16 s" in screen_text(talk.app)

    async def test_then_it_tells_what_the_answer_has_cost_the_run(self, tmp_path: Path) -> None:
        waited = ev.ChatAnswered(step=60, tokens=12, seconds=3.21)
        async with talking(tmp_path, then=[waited]) as talk:
            assert "RUNNING  waited 3.2 s for an answer" in screen_text(talk.app)


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
            rows = screen_text(talk.app).splitlines()
            assert any(BASE.splitlines()[0] in row and EXPECTED in row for row in rows)

    async def test_a_side_is_not_told_the_answers_of_another(self, tmp_path: Path) -> None:
        remark = "without 1 prompt it didn't answer"
        async with talking(tmp_path) as talk:
            await talk.ask("One")
            await talk.pilot.press("ctrl+b")
            await talk.ask("Two")
            both = talk.engine.asked[-1]
            assert isinstance(both, SideBySide)
            told = [[each.content for each in chat.question.messages] for chat in both.chats]
            assert told == [["Two"], ["One", EXPECTED, "Two"]]
            assert screen_text(talk.app).count(remark) == 1

    async def test_retry_asks_whoever_is_chosen_now(self, tmp_path: Path) -> None:
        async with talking(tmp_path) as talk:
            await talk.ask()
            await talk.pilot.press("ctrl+t", "ctrl+r")
            await talk.answered()
            assert talk.answers == [BASE]
            assert len(talk.app.screen.query(TurnView)) == 1


class TestTitle:
    async def test_names_the_step_that_answers_from_its_first_word(self, tmp_path: Path) -> None:
        async with talking(tmp_path) as talk:
            talk.engine.step, talk.engine.holds = 64, asyncio.Event()
            talk.app.screen.query_one(PromptInput).load_text(PROMPT)
            await talk.pilot.press("enter")
            await talk.until(lambda: talk.answers == ['{"item":'])
            assert "adapter · step 64" in screen_text(talk.app)
            talk.engine.holds.set()
            await talk.answered()

    async def test_names_the_run_once_another_one_is_followed(self, tmp_path: Path) -> None:
        async with talking(tmp_path) as talk:
            await talk.pilot.press("ctrl+b")
            await talk.ask()
            run = talk.place.run
            assert run is not None
            other = RunDirectory(tmp_path / "adapters" / "other-lora-1")
            talk.app.publish(run=replace(run, directory=other))
            await talk.pilot.pause()
            shown = screen_text(talk.app)
            assert "SmolLM2-135M-Instruct-lora-1 · step 60" in shown
            assert "adapter · step 60" not in shown
            await talk.ask("And now?")
            chats = talk.engine.asked[-1]
            assert isinstance(chats, SideBySide)
            told = chats.chats[1].question.messages
            assert [each.content for each in told] == ["And now?"]
            talk.app.publish(run=run)
            await talk.pilot.pause()
            assert "other-lora-1 · step 60" in screen_text(talk.app)

    async def test_names_the_run_in_a_conversation_that_is_opened_again(
        self, tmp_path: Path
    ) -> None:
        async with talking(tmp_path) as talk:
            await talk.ask()
        async with talking(tmp_path, None) as talk:
            await talk.pilot.press("escape", "h")
            await talk.pilot.pause()
            await talk.pilot.press("enter")
            await talk.answered()
            assert "SmolLM2-135M-Instruct-lora-1 · step 60" in screen_text(talk.app)


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

    async def test_esc_breaks_off_the_opening_of_a_model(self, tmp_path: Path) -> None:
        with_adapter(tmp_path)
        other = recipes.replace(RECIPE, "model", "another/model")
        async with talking(tmp_path, "finished", other) as talk:
            talk.engine.downloads = True
            talk.app.screen.query_one(PromptInput).load_text(PROMPT)
            await talk.pilot.press("enter")
            await talk.until(lambda: talk.statuses == ["downloading 10%"])
            await talk.pilot.press("escape")
            await talk.answered()
            assert talk.statuses == ["stopped  ctrl+r asks again"]
            assert talk.engine.cancelled()
            talk.engine.downloads = False
            await talk.pilot.press("ctrl+r")
            await talk.answered()
            assert talk.answers == [EXPECTED]

    async def test_esc_breaks_off_the_opening_for_an_evaluation(self, tmp_path: Path) -> None:
        with_adapter(tmp_path)
        other = recipes.replace(RECIPE, "model", "another/model")
        async with talking(tmp_path, "finished", other) as talk:
            talk.engine.downloads = True
            await talk.pilot.press("escape", "v")
            await talk.until(lambda: "downloading 10%" in screen_text(talk.app))
            await talk.pilot.press("escape")
            await talk.answered()
            assert "The evaluation was left off. v evaluates again." in screen_text(talk.app)
            assert talk.engine.cancelled()

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

    async def test_outside_of_the_line_one_key_walks_on_and_another_asks(
        self, tmp_path: Path
    ) -> None:
        with_examples(tmp_path)
        async with talking(tmp_path) as talk:
            await talk.pilot.press("escape", "n", "n", "p", "enter")
            await talk.answered()
            await talk.pilot.press("n", "enter")
            await talk.answered()
            prompts = [view.turn.prompt for view in talk.app.screen.query(TurnView)]
            assert prompts == [PROMPT, "Request to JSON: Wake me at 7"]

    @pytest.mark.parametrize("width", [80, 120])
    async def test_what_is_expected_stands_beside_the_answers_where_there_is_room(
        self, tmp_path: Path, width: int
    ) -> None:
        with_examples(tmp_path)
        async with talking(tmp_path, size=(width, 40)) as talk:
            await talk.pilot.press("ctrl+n", "enter")
            await talk.answered()
            rows = [row for row in screen_text(talk.app).splitlines() if EXPECTED in row]
            assert [row.count(EXPECTED) for row in rows] == ([2] if width == 120 else [1, 1])

    async def test_one_in_mid_conversation_is_marked_as_asked_without_what_stands_above(
        self, tmp_path: Path
    ) -> None:
        with_examples(tmp_path)
        async with talking(tmp_path) as talk:
            await talk.pilot.press("ctrl+n", "enter")
            await talk.answered()
            assert APART not in screen_text(talk.app)
            await talk.ask("And now?")
            await talk.pilot.press("ctrl+n", "enter")
            await talk.answered()
            await talk.ask("And then?")
            assert screen_text(talk.app).count(APART) == 1
            told_last = [each.content for each in chats(talk)[-1].question.messages]
            assert told_last == ["Request to JSON: Wake me at 7", EXPECTED, "And then?"]
            await talk.pilot.press("escape", "shift+up", "shift+up", "e", "enter")
            await talk.answered()
            assert screen_text(talk.app).count(APART) == 1

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

    @pytest.mark.parametrize(
        ("keys", "text"),
        [
            (("ctrl+a", "ctrl+k"), "first\n"),
            (("ctrl+u",), "first\n"),
            (("ctrl+a", "ctrl+e", "!"), f"first\n{'word ' * 100}!"),
        ],
    )
    async def test_a_wrapped_line_is_one_line(
        self, tmp_path: Path, keys: tuple[str, ...], text: str
    ) -> None:
        async with talking(tmp_path, answer=lambda chat: f"first\n{'word ' * 100}") as talk:
            await talk.ask()
            await talk.pilot.press("escape", "c", *keys)
            assert talk.app.screen.query_one(PromptInput).text == text


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


def with_checkpoint(folder: Path, step: int) -> Path:
    """The synthetic run's folder with its adapter and one of a checkpoint."""
    path = with_adapter(folder)
    file = path / f"{step:07d}_adapters.safetensors"
    file.touch()
    return file


def records_of(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def with_other_run(folder: Path, model: str = RECIPE.model) -> Path:
    """Another run's folder with an adapter in it, and one of step 50."""
    path = folder / "adapters" / "other-lora-1"
    path.mkdir(parents=True)
    recipes.save(recipes.replace(RECIPE, "model", model), path / "recipe.yaml")
    for name in ("adapters", "0000050_adapters"):
        (path / f"{name}.safetensors").touch()
    return path


class TestCheckpoints:
    async def test_a_checkpoint_answers_beside_the_adapter(self, tmp_path: Path) -> None:
        file = with_checkpoint(tmp_path, 200)
        async with talking(tmp_path, "finished", steps=200) as talk:
            await talk.choose("end", "space")
            await talk.pilot.press("enter")
            await talk.ask()
            (both,) = talk.engine.asked
            assert isinstance(both, SideBySide)
            assert [chat.adapter for chat in both.chats] == [str(file.parent), str(file)]
            assert "checkpoint · step 200" in screen_text(talk.app)

    async def test_while_training_the_engine_answers_for_them_all(self, tmp_path: Path) -> None:
        file = with_checkpoint(tmp_path, 200)
        async with talking(tmp_path, "running", steps=200) as talk:
            await talk.choose("end", "space")
            await talk.pilot.press("enter")
            await talk.ask()
            (both,) = talk.engine.asked
            assert isinstance(both, SideBySide)
            assert [chat.adapter for chat in both.chats] == [None, str(file)]

    async def test_two_adapters_of_another_run_are_compared(self, tmp_path: Path) -> None:
        with_adapter(tmp_path)
        other = with_other_run(tmp_path)
        async with talking(tmp_path, "finished") as talk:
            await talk.choose("end", "space", "up", "space")
            await talk.pilot.press("enter")
            await talk.ask()
            (both,) = talk.engine.asked
            assert isinstance(both, SideBySide)
            assert [chat.adapter for chat in both.chats] == [
                str(other / "0000050_adapters.safetensors"),
                str(other),
            ]

    async def test_one_alone_is_asked_alone(self, tmp_path: Path) -> None:
        other = with_other_run(tmp_path)
        async with talking(tmp_path, None) as talk:
            await talk.choose("home", "down")
            await talk.pilot.press("enter")
            await talk.ask()
            (chat,) = talk.engine.asked
            assert isinstance(chat, Chat)
            assert chat.adapter == str(other)

    async def test_a_run_of_another_model_can_not_answer(self, tmp_path: Path) -> None:
        with_other_run(tmp_path, "another/model")
        async with talking(tmp_path, None) as talk:
            await talk.choose()
            assert "other-lora-1" not in screen_text(talk.app)


class TestPast:
    async def test_a_past_conversation_is_opened_again_and_gone_on_with(
        self, tmp_path: Path
    ) -> None:
        async with talking(tmp_path) as talk:
            await talk.ask("One")
            await talk.pilot.press("ctrl+b")
            await talk.ask("Two")
        async with talking(tmp_path) as talk:
            await talk.pilot.press("escape", "h")
            await talk.pilot.pause()
            assert "2 prompts    One" in screen_text(talk.app)
            await talk.pilot.press("enter")
            await talk.answered()
            assert talk.answers == [EXPECTED, BASE, EXPECTED]
            await talk.pilot.press("enter")
            await talk.ask("Three")
            (chat,) = talk.engine.asked
            assert isinstance(chat, Chat)
            contents = [each.content for each in chat.question.messages]
            assert contents == ["One", EXPECTED, "Two", EXPECTED, "Three"]
        async with talking(tmp_path) as talk:
            await talk.pilot.press("escape", "h")
            await talk.pilot.pause()
            assert "3 prompts    One" in screen_text(talk.app)

    async def test_a_prompt_that_was_refused_keeps_its_place_when_opened_again(
        self, tmp_path: Path
    ) -> None:
        async with talking(tmp_path) as talk:
            talk.engine.refuses = "The run is not training yet."
            await talk.ask("One")
            talk.engine.refuses = None
            await talk.ask("Two")
        async with talking(tmp_path) as talk:
            await talk.pilot.press("escape", "h")
            await talk.pilot.pause()
            await talk.pilot.press("enter")
            await talk.answered()
            prompts = [view.turn.prompt for view in talk.app.screen.query(TurnView)]
            assert prompts == ["One", "Two"]

    async def test_verdicts_and_stops_are_seen_again(self, tmp_path: Path) -> None:
        with_examples(tmp_path)
        async with talking(tmp_path) as talk:
            await talk.pilot.press("ctrl+n", "enter")
            await talk.answered()
        async with talking(tmp_path) as talk:
            await stopped(talk)
        for keys, status in ((("enter",), "✓ as expected"), (("down", "enter"), "stopped")):
            async with talking(tmp_path) as talk:
                await talk.pilot.press("escape", "h")
                await talk.pilot.pause()
                await talk.pilot.press(*keys)
                await talk.answered()
                assert talk.statuses == [status]

    async def test_without_one_a_sentence_says_so(self, tmp_path: Path) -> None:
        async with talking(tmp_path) as talk:
            await talk.pilot.press("escape", "h")
            await talk.pilot.pause()
            assert "There is no past conversation yet" in screen_text(talk.app)


class TestUnfinished:
    async def test_quitting_keeps_the_prompt_and_what_has_come(self, tmp_path: Path) -> None:
        async with talking(tmp_path) as talk:
            await begun(talk)
            talk.app.exit()
        assert kept(tmp_path) == [(PROMPT, '{"item":', "cancelled")]

    async def test_quitting_while_a_model_is_opened_keeps_the_prompt(self, tmp_path: Path) -> None:
        with_adapter(tmp_path)
        other = recipes.replace(RECIPE, "model", "another/model")
        async with talking(tmp_path, "finished", other) as talk:
            talk.engine.downloads = True
            talk.app.screen.query_one(PromptInput).load_text(PROMPT)
            await talk.pilot.press("enter")
            await talk.until(lambda: talk.statuses == ["downloading 10%"])
            talk.app.exit()
        assert kept(tmp_path) == [(PROMPT, "", "cancelled")]

    async def test_the_death_of_an_engine_keeps_what_has_come_thoughts_and_all(
        self, tmp_path: Path
    ) -> None:
        async with talking(tmp_path, answer=lambda chat: "<think>hm</think>Yes, indeed.") as talk:
            await begun(talk, "Yes,")
            talk.engine.hang_up()
            await talk.answered()
        assert kept(tmp_path) == [(PROMPT, "<think>hm</think>Yes,", "cancelled")]

    async def test_a_stopped_answer_that_is_corrected_is_said_to_lack_its_end(
        self, tmp_path: Path
    ) -> None:
        async with talking(tmp_path) as talk:
            await stopped(talk)
            await talk.pilot.press("escape", "c")
            assert "It was stopped, so its end is missing." in screen_text(talk.app)

    async def test_of_an_answer_that_failed_at_once_there_is_nothing_to_copy_or_correct(
        self, tmp_path: Path
    ) -> None:
        async with talking(tmp_path) as talk:
            talk.engine.refuses = "The run is not training yet."
            await talk.ask()
            await talk.pilot.press("escape")
            for key in ("y", "c"):
                talk.app.clear_notifications()
                await talk.pilot.press(key)
                assert "There is no answer yet" in told(talk)
            assert not talk.app.clipboard

    async def test_what_an_answer_in_progress_keeps_from_being_done_is_said(
        self, tmp_path: Path
    ) -> None:
        async with talking(tmp_path) as talk:
            await talk.ask("One")
            talk.engine.holds = asyncio.Event()
            talk.app.screen.query_one(PromptInput).load_text(PROMPT)
            await talk.pilot.press("enter")
            await talk.until(lambda: talk.answers[-1] == '{"item":')
            talk.app.screen.query_one(TalkView).focus()
            for key in ("c", "e", "h", "x"):
                talk.app.clear_notifications()
                await talk.pilot.press(key)
                said = [each.message for each in talk.app._notifications]
                assert said == ["An answer is being written; esc stops it."], key
            await talk.pilot.press("escape")
            await talk.answered()


async def begun(talk: Talk, first: str = '{"item":') -> None:
    """Ask, and wait for the first word of the answer, which is held up there."""
    talk.engine.holds = asyncio.Event()
    talk.app.screen.query_one(PromptInput).load_text(PROMPT)
    await talk.pilot.press("enter")
    await talk.until(lambda: talk.answers[-1:] == [first])


def kept(folder: Path) -> list[tuple[str, str, str]]:
    """Each prompt of the project's history with its answer and how that ended."""
    said = history.remembered(folder / "adapters" / history.HISTORY_NAME)
    return [(each.prompt, each.answer, each.end) for each in said]


async def stopped(talk: Talk) -> None:
    """Ask, and stop the answer after its first word."""
    await begun(talk)
    await talk.pilot.press("escape")
    await talk.answered()


class TestDraft:
    """What is being written when something else is put into the line."""

    async def test_is_there_again_once_a_correction_is_saved_or_left(self, tmp_path: Path) -> None:
        with_examples(tmp_path)
        async with talking(tmp_path) as talk:
            line = talk.app.screen.query_one(PromptInput)
            await talk.ask("One")
            for key, end in (("c", "enter"), ("c", "escape"), ("e", "escape"), ("e", "enter")):
                line.put("")
                await talk.pilot.press(*"draft", "escape", key)
                assert line.text == (EXPECTED if key == "c" else "One")
                await talk.pilot.press(end)
                await talk.answered()
                assert line.text == "draft", (key, end)
                await talk.pilot.press("escape", "enter")

    async def test_is_still_there_when_a_second_edit_is_left(self, tmp_path: Path) -> None:
        async with talking(tmp_path) as talk:
            await talk.ask("One")
            await talk.pilot.press(*"draft", "escape", "e", "escape", "e", "escape")
            assert talk.app.screen.query_one(PromptInput).text == "draft"

    async def test_is_there_again_after_a_walk_through_the_examples(self, tmp_path: Path) -> None:
        with_examples(tmp_path)
        async with talking(tmp_path) as talk:
            line = talk.app.screen.query_one(PromptInput)
            await talk.pilot.press(*"draft", "escape", "n", "n", "p", "enter")
            await talk.answered()
            assert [view.turn.prompt for view in talk.app.screen.query(TurnView)] == [PROMPT]
            assert line.text == "draft"


class TestBranches:
    async def test_an_edited_prompt_is_asked_without_what_it_replaces(self, tmp_path: Path) -> None:
        async with talking(tmp_path) as talk:
            await talk.ask("Hello")
            await talk.ask("And now?")
            await talk.pilot.press("escape", "e")
            assert talk.app.screen.query_one(PromptInput).text == "And now?"
            await talk.ask("And then?")
            chat = talk.engine.asked[2]
            assert isinstance(chat, Chat)
            contents = [each.content for each in chat.question.messages]
            assert contents == ["Hello", EXPECTED, "And then?"]
            assert "And then?  2 of 2" in screen_text(talk.app)

    async def test_the_other_branch_is_kept(self, tmp_path: Path) -> None:
        async with talking(tmp_path) as talk:
            await talk.ask("One")
            await talk.pilot.press("escape", "e")
            await talk.ask("Two")
            await talk.pilot.press("escape", "left_square_bracket")
            await talk.answered()
            assert [view.turn.prompt for view in talk.app.screen.query(TurnView)] == ["One"]
            assert talk.answers == [EXPECTED]
            assert "One  1 of 2" in screen_text(talk.app)

    async def test_a_retry_keeps_an_answer_that_came_to_its_end(self, tmp_path: Path) -> None:
        async with talking(tmp_path) as talk:
            await talk.ask("One")
            talk.engine.holds = asyncio.Event()
            await talk.pilot.press("ctrl+r")
            await talk.until(lambda: talk.answers == ['{"item":'])
            await talk.pilot.press("escape")
            await talk.answered()
            await talk.pilot.press("escape", "left_square_bracket")
            await talk.answered()
            assert talk.answers == [EXPECTED]
            assert "One  1 of 2" in screen_text(talk.app)

    async def test_a_retry_takes_the_place_of_an_answer_that_was_stopped(
        self, tmp_path: Path
    ) -> None:
        async with talking(tmp_path) as talk:
            await stopped(talk)
            talk.engine.holds = None
            await talk.pilot.press("ctrl+r")
            await talk.answered()
            assert talk.answers == [EXPECTED]
            assert "2 of 2" not in screen_text(talk.app)
        async with talking(tmp_path) as talk:
            await talk.pilot.press("escape", "h")
            await talk.pilot.pause()
            await talk.pilot.press("enter")
            await talk.answered()
            assert talk.answers == [EXPECTED]
            assert "2 of 2" not in screen_text(talk.app)

    async def test_an_edited_example_is_asked_alone_as_it_was(self, tmp_path: Path) -> None:
        with_examples(tmp_path)
        async with talking(tmp_path) as talk:
            await talk.ask("Hello")
            await talk.pilot.press("ctrl+n", "enter")
            await talk.answered()
            await talk.pilot.press("escape", "e")
            await talk.ask(f"{PROMPT}!")
            assert chats(talk)[-1].question.messages == (Message("user", f"{PROMPT}!"),)
            assert "expected" not in talk.statuses[-1]

    async def test_an_example_that_is_asked_as_it_was_still_expects_its_answer(
        self, tmp_path: Path
    ) -> None:
        with_examples(tmp_path)
        async with talking(tmp_path) as talk:
            await talk.ask("Hello")
            await talk.pilot.press("ctrl+n", "enter")
            await talk.answered()
            await talk.pilot.press("escape", "e", "enter")
            await talk.answered()
            assert chats(talk)[-1].question.messages == (Message("user", PROMPT),)
            assert talk.statuses[-1].startswith("✓ as expected")
            assert f"{PROMPT}  2 of 2" in screen_text(talk.app)

    async def test_an_edit_branches_from_where_it_was_begun_whatever_is_in_view(
        self, tmp_path: Path
    ) -> None:
        async with talking(tmp_path) as talk:
            await talk.ask("One")
            await talk.ask("Two")
            await talk.pilot.press("escape", "shift+up", "shift+up", "e")
            await talk.ask("Uno")
            await talk.pilot.press("escape", "e", "tab", "left_square_bracket")
            await talk.answered()
            prompts = [view.turn.prompt for view in talk.app.screen.query(TurnView)]
            assert prompts == ["One", "Two"]
            talk.app.screen.query_one(PromptInput).focus()
            await talk.ask("1")
            prompts = [view.turn.prompt for view in talk.app.screen.query(TurnView)]
            assert prompts == ["1"]
            assert "1  3 of 3" in screen_text(talk.app)
            assert [each.content for each in chats(talk)[-1].question.messages] == ["1"]

    async def test_an_edit_in_a_later_turn_takes_its_branch_along(self, tmp_path: Path) -> None:
        async with talking(tmp_path) as talk:
            await talk.ask("One")
            await talk.pilot.press("escape", "e")
            await talk.ask("Uno")
            await talk.ask("Due")
            await talk.pilot.press("escape", "e", "tab")
            await talk.pilot.press("shift+up", "shift+up", "left_square_bracket")
            await talk.answered()
            talk.app.screen.query_one(PromptInput).focus()
            await talk.ask("2")
            prompts = [view.turn.prompt for view in talk.app.screen.query(TurnView)]
            assert prompts == ["Uno", "2"]

    async def test_a_new_conversation_leaves_an_edit_of_the_one_before(
        self, tmp_path: Path
    ) -> None:
        async with talking(tmp_path) as talk:
            await talk.ask("One")
            await talk.pilot.press(*"draft", "escape", "e", "ctrl+l")
            await talk.answered()
            assert talk.app.screen.query_one(PromptInput).text == "draft"
            await talk.ask("Two")
            prompts = [view.turn.prompt for view in talk.app.screen.query(TurnView)]
            assert prompts == ["Two"]

    async def test_esc_leaves_the_prompt_as_it_was(self, tmp_path: Path) -> None:
        async with talking(tmp_path) as talk:
            await talk.ask("One")
            await talk.pilot.press("escape", "e", "escape", "enter")
            await talk.ask("Two")
            assert len(talk.app.screen.query(TurnView)) == 2


class TestPicking:
    async def test_an_earlier_prompt_is_written_anew_in_a_branch(self, tmp_path: Path) -> None:
        async with talking(tmp_path) as talk:
            for prompt in ("One", "Two", "Three"):
                await talk.ask(prompt)
            await talk.pilot.press("escape", "shift+up", "shift+up", "e")
            assert talk.app.screen.query_one(PromptInput).text == "Two"
            await talk.ask("2")
            prompts = [view.turn.prompt for view in talk.app.screen.query(TurnView)]
            assert prompts == ["One", "2"]
            await talk.pilot.press("escape", "left_square_bracket")
            await talk.answered()
            prompts = [view.turn.prompt for view in talk.app.screen.query(TurnView)]
            assert prompts == ["One", "Two", "Three"]

    async def test_an_earlier_prompt_is_asked_again_in_a_branch(self, tmp_path: Path) -> None:
        async with talking(tmp_path) as talk:
            await talk.ask("One")
            await talk.ask("Two")
            await talk.pilot.press("escape", "shift+up", "shift+up", "r")
            await talk.answered()
            (view,) = talk.app.screen.query(TurnView)
            assert view.turn.prompt == "One"
            assert "One  2 of 2" in screen_text(talk.app)
            assert [chat.question.sampling.seed for chat in chats(talk)] == [0, 0, 1]

    async def test_the_answer_beside_is_copied(self, tmp_path: Path) -> None:
        async with talking(tmp_path) as talk:
            await talk.pilot.press("ctrl+b")
            await talk.ask()
            await talk.pilot.press("escape", "y")
            assert talk.app.clipboard == EXPECTED
            await talk.pilot.press("shift+up", "shift+left")
            assert "▸ base" in screen_text(talk.app)
            await talk.pilot.press("y")
            assert talk.app.clipboard == BASE

    async def test_an_earlier_answer_is_corrected_without_what_came_after(
        self, tmp_path: Path
    ) -> None:
        with_examples(tmp_path)
        async with talking(tmp_path) as talk:
            await talk.ask("One")
            await talk.ask("Two")
            await talk.pilot.press("escape", "shift+up", "shift+up", "c")
            await talk.ask("1")
            await talk.answered()
            (record,) = records_of(tmp_path / "data" / "train.jsonl")
            assert [each["content"] for each in record["messages"]] == ["One", "1"]


class TestRecords:
    async def test_a_corrected_answer_is_a_record_to_train_on(self, tmp_path: Path) -> None:
        with_examples(tmp_path)
        async with talking(tmp_path) as talk:
            await talk.ask("Add 7 plums")
            await talk.pilot.press("escape", "c")
            assert talk.app.screen.query_one(PromptInput).text == EXPECTED
            assert "enter saves it as a record of train.jsonl" in screen_text(talk.app)
            assert screen_text(talk.app).splitlines()[-1].count("Save") == 1
            await talk.ask('{"item": "plums", "quantity": 7}')
            assert len(talk.engine.asked) == 1
            await talk.answered()
            assert records_of(tmp_path / "data" / "train.jsonl") == [
                {
                    "messages": [
                        {"role": "user", "content": "Add 7 plums"},
                        {"role": "assistant", "content": '{"item": "plums", "quantity": 7}'},
                    ]
                }
            ]

    async def test_a_corrected_example_is_told_to_spoil_evaluations_before_it_is_saved(
        self, tmp_path: Path
    ) -> None:
        with_examples(tmp_path)
        async with talking(tmp_path) as talk:
            await talk.pilot.press("ctrl+n", "enter")
            await talk.answered()
            await talk.pilot.press("escape", "c")
            assert "Evaluations use its prompt" in " ".join(screen_text(talk.app).split())
            await talk.pilot.press("escape")
            assert not (tmp_path / "data" / "train.jsonl").exists()
            await talk.pilot.press("c", "enter")
            await talk.answered()
            said = [each.message for each in talk.app._notifications]
            assert any("its prompt is an example that evaluations use" in each for each in said)

    async def test_a_correction_that_mlx_lm_can_not_train_beside_the_others_says_so(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "train.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
        clause = (
            "mlxft-tui trains messages beside prompt/completion, but mlx_lm can't train this file"
        )
        async with talking(tmp_path) as talk:
            await talk.ask("One")
            await talk.pilot.press("escape", "c", "enter")
            await talk.answered()
            assert "Added to" in told(talk)
            assert clause not in told(talk)
            await talk.pilot.press("escape", "enter")
            await talk.ask("Two")
            await talk.pilot.press("escape", "c", "enter")
            await talk.answered()
            assert clause in told(talk)

    async def test_a_correction_that_can_not_be_saved_stays_in_the_line(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "data" / "train.jsonl").mkdir(parents=True)
        async with talking(tmp_path) as talk:
            await talk.ask("Add 7 plums")
            line = talk.app.screen.query_one(PromptInput)
            await talk.pilot.press(*"draft", "escape", "c")
            await talk.ask("{}")
            await talk.answered()
            assert "train.jsonl" in told(talk)
            assert line.text == "{}"
            (tmp_path / "data" / "train.jsonl").rmdir()
            await talk.pilot.press("enter")
            await talk.answered()
            (record,) = records_of(tmp_path / "data" / "train.jsonl")
            assert record["messages"][-1]["content"] == "{}"
            assert line.text == "draft"

    @pytest.mark.parametrize("key", ["ctrl+n", "ctrl+r"])
    async def test_a_correction_that_is_being_written_gives_way_to_no_other_prompt(
        self, tmp_path: Path, key: str
    ) -> None:
        with_examples(tmp_path)
        async with talking(tmp_path) as talk:
            await talk.ask("One")
            line = talk.app.screen.query_one(PromptInput)
            await talk.pilot.press("escape", "c", *"!!", key)
            await talk.pilot.pause()
            assert line.text.endswith("!!")
            assert len(talk.app.screen.query(TurnView)) == 1

    async def test_what_cannot_be_seen_in_the_line_is_kept_in_the_record(
        self, tmp_path: Path
    ) -> None:
        with_examples(tmp_path)
        async with talking(tmp_path, answer=lambda chat: "if x:\n\treturn") as talk:
            await talk.ask("Code")
            await talk.pilot.press("escape", "c", "enter")
            await talk.answered()
            (record,) = records_of(tmp_path / "data" / "train.jsonl")
            assert record["messages"][-1]["content"] == "if x:\n\treturn"

    async def test_an_edited_correction_keeps_what_cannot_be_seen(self, tmp_path: Path) -> None:
        with_examples(tmp_path)
        async with talking(tmp_path, answer=lambda chat: "if x:\n\treturn\u200f") as talk:
            await talk.ask("Code")
            await talk.pilot.press("escape", "c", "space", "1", "enter")
            await talk.answered()
            (record,) = records_of(tmp_path / "data" / "train.jsonl")
            assert record["messages"][-1]["content"] == "if x:\n\treturn\u200f 1"

    async def test_a_prompt_that_is_edited_or_recalled_keeps_it_too(self, tmp_path: Path) -> None:
        async with talking(tmp_path) as talk:
            talk.app.post_message(events.Paste("a\tb\u200f"))
            await talk.pilot.press("enter")
            await talk.answered()
            await talk.pilot.press("escape", "e", "c", "enter")
            await talk.answered()
            await talk.pilot.press("up", "d", "enter")
            await talk.answered()
            asked = [each.question.messages[-1].content for each in chats(talk)]
            assert asked == ["a\tb\u200f", "a\tb\u200fc", "a\tb\u200fcd"]

    async def test_an_edited_example_keeps_it_too(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        record = json.dumps({"prompt": "a\tb", "completion": "c"})
        (tmp_path / "data" / "test.jsonl").write_text(record + "\n")
        async with talking(tmp_path) as talk:
            await talk.pilot.press("escape", "n", "enter")
            await talk.answered()
            await talk.pilot.press("enter", "ctrl+n", "!", "enter")
            await talk.answered()
            asked = [each.question.messages[-1].content for each in chats(talk)]
            assert asked == ["a\tb", "a\tb!"]
            turns = [view.turn for view in talk.app.screen.query(TurnView)]
            assert [turn.example is not None for turn in turns] == [True, False]

    async def test_a_conversation_is_exported_as_one_record(self, tmp_path: Path) -> None:
        async with talking(tmp_path) as talk:
            await talk.ask("One")
            await talk.ask("Two")
            await talk.pilot.press("escape", "x")
            (record,) = records_of(tmp_path / "chat_export.jsonl")
            roles = [each["role"] for each in record["messages"]]
            assert roles == ["user", "assistant", "user", "assistant"]
            assert not list(problems(record))

    async def test_what_was_asked_by_itself_is_exported_as_a_record_of_its_own(
        self, tmp_path: Path
    ) -> None:
        with_examples(tmp_path)
        async with talking(tmp_path) as talk:
            await talk.ask("One")
            await talk.pilot.press("ctrl+n", "enter")
            await talk.answered()
            await talk.ask("Two")
            await talk.pilot.press("escape", "x")
            found = records_of(tmp_path / "chat_export.jsonl")
            prompts = [[each["content"] for each in record["messages"][::2]] for record in found]
            assert prompts == [["One"], [PROMPT, "Two"]]
            assert "Added 2 records" in told(talk)
            assert "as a test prompt is asked without what was said before." in told(talk)

    async def test_an_answer_that_was_stopped_is_not_exported(self, tmp_path: Path) -> None:
        async with talking(tmp_path) as talk:
            await stopped(talk)
            await talk.pilot.press("escape", "x")
            assert not (tmp_path / "chat_export.jsonl").exists()
            talk.engine.holds = None
            await talk.pilot.press("enter")
            await talk.ask("Two")
            await talk.pilot.press("escape", "x")
            (exported,) = records_of(tmp_path / "chat_export.jsonl")
            assert [each["content"] for each in exported["messages"]] == ["Two", EXPECTED]
            said = [each.message for each in talk.app._notifications]
            assert any(
                "left out: 1 prompt that adapter didn't answer to the end" in each for each in said
            )

    async def test_what_was_asked_before_is_there_in_the_next_session(self, tmp_path: Path) -> None:
        async with talking(tmp_path) as talk:
            await talk.ask("One")
            await talk.ask("Two")
        async with talking(tmp_path) as talk:
            line = talk.app.screen.query_one(PromptInput)
            seen = []
            for key in ("up", "up", "down", "down"):
                await talk.pilot.press(key)
                seen.append(line.text)
            assert seen == ["Two", "One", "Two", ""]

    async def test_copy_is_the_answer_without_what_was_thought(self, tmp_path: Path) -> None:
        async with talking(tmp_path, answer=lambda chat: "<think>hm</think>Yes.") as talk:
            await talk.ask()
            await talk.pilot.press("escape", "y")
            assert talk.app.clipboard == "Yes."

    async def test_a_correction_of_the_sample_data_makes_the_project_its_own(
        self, tmp_path: Path
    ) -> None:
        async with talking(tmp_path) as talk:
            talk.app.publish(recipe=recipes.replace(RECIPE, "data", str(sample_data())))
            await talk.ask("Add 7 plums")
            await talk.pilot.press("escape", "c")
            await talk.ask("{}")
            await talk.answered()
            record = records_of(tmp_path / "data" / "train.jsonl")[-1]
            assert record == {"prompt": "Add 7 plums", "completion": "{}"}
            assert talk.app.recipes[-1].data == "data"
            assert Session(tmp_path).saved_recipe().data == "data"
            assert "301 records by now; the recipe trains on data, a copy of its data" in told(talk)

    async def test_it_leaves_records_alone_that_are_the_users_own(self, tmp_path: Path) -> None:
        with_examples(tmp_path)
        async with talking(tmp_path) as talk:
            talk.app.publish(recipe=recipes.replace(RECIPE, "data", str(sample_data())))
            await talk.ask("Add 7 plums")
            await talk.pilot.press("escape", "c", "enter")
            await talk.answered()
            assert [each.name for each in (tmp_path / "data").iterdir()] == ["test.jsonl"]
            assert talk.app.recipes[-1].data == "data-2"


def told(talk: Talk) -> str:
    """All notices so far."""
    return "\n".join(each.message for each in talk.app._notifications)


class TestThinking:
    async def test_a_thought_is_folded_until_it_is_wanted(self, tmp_path: Path) -> None:
        async with talking(tmp_path, answer=lambda chat: "<think>so so</think>Yes.") as talk:
            await talk.ask()
            assert talk.answers == ["Yes."]
            assert "▸ thought, 2 words" in screen_text(talk.app)
            await talk.pilot.press("escape", "g")
            await talk.pilot.pause()
            shown = screen_text(talk.app)
            assert "▾ thought, 2 words" in shown
            assert "so so" in shown

    async def test_it_is_not_told_to_the_model_again(self, tmp_path: Path) -> None:
        async with talking(tmp_path, answer=lambda chat: "<think>hm</think>Yes.") as talk:
            await talk.ask("One")
            await talk.ask("Two")
            chat = talk.engine.asked[1]
            assert isinstance(chat, Chat)
            assert chat.question.messages[1] == Message("assistant", "Yes.")


class TestSampling:
    async def test_what_the_sheet_says_is_asked_with(self, tmp_path: Path) -> None:
        async with talking(tmp_path) as talk:
            await talk.pilot.press("escape", "s")
            await talk.pilot.pause()
            for name, value in (("system", "Be brief."), ("temperature", "0.7"), ("seed", "5")):
                talk.app.screen.query_one(f"#{name}", Input).value = value
            await talk.pilot.press("enter")
            await talk.pilot.pause()
            await talk.pilot.press("enter")
            await talk.ask()
            (chat,) = talk.engine.asked
            assert isinstance(chat, Chat)
            assert chat.question.sampling == Sampling(temperature=0.7, seed=5)
            assert chat.question.messages[0] == Message("system", "Be brief.")

    async def test_what_is_not_the_plainest_way_stands_beside_who_answers(
        self, tmp_path: Path
    ) -> None:
        async with talking(tmp_path, size=(200, 40)) as talk:
            assert "max 512 tokens" not in screen_text(talk.app)
            await talk.pilot.press("escape", "s")
            await talk.pilot.pause()
            for name, value in (("temperature", "0.7"), ("max_tokens", "64"), ("stop", r"### \n")):
                talk.app.screen.query_one(f"#{name}", Input).value = value
            await talk.pilot.press("enter")
            await talk.pilot.pause()
            assert "temperature 0.7  max 64 tokens  stops at ### \\n" in screen_text(talk.app)

    async def test_a_value_that_can_not_be_is_said_and_not_kept(self, tmp_path: Path) -> None:
        async with talking(tmp_path) as talk:
            await talk.pilot.press("escape", "s")
            await talk.pilot.pause()
            talk.app.screen.query_one("#top_p", Input).value = "2"
            await talk.pilot.press("enter")
            await talk.pilot.pause()
            assert "top_p is 2.0; it must be above 0" in screen_text(talk.app)
            await talk.pilot.press("escape")
            await talk.pilot.press("enter")
            await talk.ask()
            (chat,) = talk.engine.asked
            assert isinstance(chat, Chat)
            assert chat.question.sampling == Sampling()

    async def test_a_retry_draws_anew(self, tmp_path: Path) -> None:
        async with talking(tmp_path) as talk:
            await talk.ask()
            await talk.pilot.press("ctrl+r")
            await talk.answered()
            seeds = [chat.question.sampling.seed for chat in talk.engine.asked]  # type: ignore[union-attr]
            assert seeds == [0, 1]


class TestEvaluation:
    async def test_base_and_adapter_are_compared_on_the_test_set(self, tmp_path: Path) -> None:
        with_adapter(tmp_path)
        with_examples(tmp_path)
        async with talking(tmp_path, "finished") as talk:
            talk.engine.evaluation = EVALUATION
            await talk.pilot.press("escape", "v")
            await talk.answered()
            (asked,) = talk.engine.asked
            assert isinstance(asked, Evaluate)
            assert [name for name, _ in asked.sides] == ["base", "adapter · step 60"]
            shown = screen_text(talk.app)
            assert "exact match +100.0 points" in shown
            assert "1 of 1 answers changed" in shown

    async def test_meanwhile_a_key_that_must_wait_says_what_is_under_way(
        self, tmp_path: Path
    ) -> None:
        with_adapter(tmp_path)
        other = recipes.replace(RECIPE, "model", "another/model")
        async with talking(tmp_path, "finished", other) as talk:
            talk.engine.downloads = True
            await talk.pilot.press("escape", "v")
            await talk.until(lambda: "downloading 10%" in screen_text(talk.app))
            await talk.pilot.press("h")
            assert told(talk) == "An evaluation is under way; esc leaves it off."

    async def test_a_run_that_still_trains_is_not_evaluated(self, tmp_path: Path) -> None:
        async with talking(tmp_path) as talk:
            await talk.pilot.press("escape", "v")
            await talk.pilot.pause()
            assert "The run is in training" in screen_text(talk.app)


class TestLoss:
    async def test_an_engine_that_dies_in_mid_answer_leaves_what_came_and_a_way_on(
        self, tmp_path: Path
    ) -> None:
        async with talking(tmp_path) as talk:
            talk.engine.holds = asyncio.Event()
            talk.app.screen.query_one(PromptInput).load_text(PROMPT)
            await talk.pilot.press("enter")
            await talk.until(lambda: talk.answers == ['{"item":'])
            talk.engine.hang_up()
            await talk.answered()
            assert talk.answers == ['{"item":']
            assert "has gone" in talk.statuses[0]
            assert "engine.log may say why, and r on the Train screen (3)" in talk.statuses[0]
            assert talk.statuses[0].endswith("ctrl+r asks again.")
            talk.engine.holds = None
            await talk.pilot.press("ctrl+r")
            await talk.answered()
            assert talk.answers == [EXPECTED]

    async def test_who_answers_in_place_of_an_adapter_that_was_never_saved_is_said(
        self, tmp_path: Path
    ) -> None:
        async with talking(tmp_path) as talk:
            await talk.ask()
            run = talk.place.run
            assert run is not None
            talk.app.publish(run=replace(run, state="lost"))
            await talk.pilot.press("ctrl+r")
            await talk.answered()
            assert talk.answers == [BASE]
            said = [each.message for each in talk.app._notifications]
            assert any("adapter · step 60 isn't there any more" in each for each in said)
            assert any(each.endswith("base answers.") for each in said)
            talk.app.clear_notifications()
            await talk.pilot.press("ctrl+r")
            await talk.answered()
            assert not list(talk.app._notifications)

    async def test_an_adapter_whose_engine_was_killed_answers_as_it_was_saved(
        self, tmp_path: Path
    ) -> None:
        with_adapter(tmp_path)
        saved = ev.CheckpointSaved(step=50, path="checkpoints/0000050")
        async with talking(tmp_path, then=[saved]) as talk:
            await talk.ask()
            run = talk.place.run
            assert run is not None
            talk.app.publish(run=replace(run, state="lost"))
            await talk.pilot.press("ctrl+r")
            await talk.answered()
            assert talk.answers == [EXPECTED]
            assert "adapter · step 50" in screen_text(talk.app)

    async def test_a_service_that_was_started_anew_is_given_the_model_first(
        self, tmp_path: Path
    ) -> None:
        async with talking(tmp_path, None) as talk:
            await talk.place.session.service()
            talk.engine.hang_up()
            await talk.ask()
            assert talk.answers == [BASE]
            assert [type(each) for each in talk.engine.asked] == [OpenModel, Chat]

    @pytest.mark.parametrize(
        "problem",
        [
            "The conversation is 520 tokens long, and the model takes 512; start a new one.",
            "/runs/lora-1: its adapter don't fit this model; choose another run.",
        ],
    )
    async def test_what_the_engine_refuses_is_said_and_the_next_question_is_answered(
        self, tmp_path: Path, problem: str
    ) -> None:
        async with talking(tmp_path) as talk:
            talk.engine.refuses = problem
            await talk.ask()
            assert problem in " ".join(screen_text(talk.app).split())
            talk.engine.refuses = None
            await talk.pilot.press("ctrl+l")
            await talk.ask()
            assert talk.answers == [EXPECTED]


HOSTILE = {
    "right to left": "שלום עולם \u202e\u2066 مرحبا بالعالم",
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈" * 200 + "é" + "\u0301" * 500,
    "nested quotes": ">" * 3000 + " deep",
    "nested lists": "".join("  " * n + "- x\n" for n in range(120)),
    "brackets": "[" * 5000 + "](" * 5000,
    "a table of a thousand columns": "|a" * 1000 + "|\n" + "|-" * 1000 + "|\n" + "|b" * 1000,
    "many lines": "- line\n" * 5000,
    "open fence": "```python\n" + "x = 1\n" * 500,
    "emphasis": "*a **b " * 2000,
    "sequences": "\x1b]52;c;aGk=\x07\x9b2J\x1b[?1049l" * 50,
}


class TestBombs:
    @pytest.mark.parametrize("name", HOSTILE)
    async def test_the_screen_survives(self, tmp_path: Path, name: str) -> None:
        async with talking(tmp_path, answer=lambda chat: HOSTILE[name]) as talk:
            await talk.ask("Go on")
            shown = screen_text(talk.app)
            assert "41.5 tok/s" in shown
            assert {each for each in shown if unicodedata.category(each) == "Cc"} <= {"\n"}
            await talk.pilot.press("escape", "enter")
            await talk.pilot.press("a")
            assert talk.app.screen.query_one(PromptInput).text == "a"


class TestLooks:
    @pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
    def test_empty(self, snap_compare: Callable[..., bool], size: tuple[int, int]) -> None:
        run = followed(Path("/project"), view_of([*preparation(), *training(60)]), "running")
        app = PlaceApp(ChatScreen(Session(Path("/project"))), recipe=RECIPE, run=run)
        assert snap_compare(app, terminal_size=size)

    @pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
    def test_side_by_side(self, snap_compare: Callable[..., bool], size: tuple[int, int]) -> None:
        assert snap_compare(Compared(), terminal_size=size, run_before=Compared.talk)

    @pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
    def test_markdown(self, snap_compare: Callable[..., bool], size: tuple[int, int]) -> None:
        assert snap_compare(Compared(), terminal_size=size, run_before=Compared.write)

    @pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
    def test_who_answers(self, snap_compare: Callable[..., bool], size: tuple[int, int]) -> None:
        assert snap_compare(Compared(), terminal_size=size, run_before=Compared.choose)

    @pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
    def test_sampling_sheet(self, snap_compare: Callable[..., bool], size: tuple[int, int]) -> None:
        assert snap_compare(Compared(), terminal_size=size, press=["escape", "s"])

    @pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
    def test_evaluation(self, snap_compare: Callable[..., bool], size: tuple[int, int]) -> None:
        assert snap_compare(Compared(), terminal_size=size, run_before=Compared.judge)


TEXT = """\
# A compiler

It reads a program in **several passes**, each of which *knows more* than `the one before`:

1. the lexer cuts the text into words
2. the parser finds out
   - how they belong together
   - and ~~where~~ what is missing

```python
def fold(node):
    return node.value if node.is_constant else None
```

> Programs must be written for people to read.

| pass | reads | writes |
|---|---|--:|
| parser | words | a tree |
"""


class Compared(PlaceApp):
    """A conversation in which both sides have answered an example."""

    def __init__(self) -> None:
        run = followed(Path("/project"), view_of([*preparation(), *training(60)]), "running")
        super().__init__(ChatScreen(Session(Path("/project"))), recipe=RECIPE, run=run)

    @staticmethod
    async def talk(pilot: Pilot[Any]) -> None:
        """Have the answers written without an engine."""
        example = Example((Message("user", PROMPT),), EXPECTED, "test.jsonl line 1")
        view = TurnView(Turn(PROMPT, example), [("base", "base"), ("adapter", "adapter · step 60")])
        screen = pilot.app.screen
        await screen.query_one(TalkView).add(view)
        view.answer("base").write(BASE)
        view.answer("base").finish("21 tokens in 1.1 s, 38.2 tok/s  prompt 31, 812 tok/s")
        view.answer("adapter").write(EXPECTED)
        view.answer("adapter").finish("✓ as expected  14 tokens in 0.4 s, 38.2 tok/s")
        await pilot.pause()

    @staticmethod
    async def write(pilot: Pilot[Any]) -> None:
        """Have an answer written that is made of all there is in Markdown."""
        view = TurnView(Turn("What is a compiler?"), [("adapter", "adapter · step 60")])
        await pilot.app.screen.query_one(TalkView).add(view)
        view.answer("adapter").finish("212 tokens  38.2 tok/s", "<think>Let me see.</think>" + TEXT)
        await pilot.pause()

    @staticmethod
    async def choose(pilot: Pilot[Any]) -> None:
        """Open the sheet of who answers, with checkpoints and another run to choose from."""
        await Compared.talk(pilot)
        sides = [
            ("base", "base SmolLM2-135M-Instruct"),
            ("adapter", "adapter SmolLM2-135M-Instruct-lora-1, in training, step 260"),
            ("@200", "checkpoint step 200"),
            ("SmolLM2-135M-Instruct-dora-1@", "run SmolLM2-135M-Instruct-dora-1"),
            ("SmolLM2-135M-Instruct-dora-1@100", "run SmolLM2-135M-Instruct-dora-1 · step 100"),
        ]
        await pilot.app.push_screen(AnswererDialog(sides, ["@200", "adapter"]))
        await pilot.pause()

    @staticmethod
    async def judge(pilot: Pilot[Any]) -> None:
        """Leave the line, with a finished evaluation in view."""
        screen = pilot.app.screen
        report = Static("\n".join(evaluate.told(EVALUATION)), markup=False, classes="evaluation")
        await screen.query_one(TalkView).add(report)
        await pilot.press("escape")
        await pilot.pause()
