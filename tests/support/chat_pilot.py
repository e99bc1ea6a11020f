"""The Chat screen under a pilot, connected to an engine with scripted answers."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from textual.pilot import Pilot

from mlxft import recipe as recipes
from mlxft.chat import history
from mlxft.comparison.labels import change_labels
from mlxft.engine.protocol import Chat
from mlxft.recipe import Recipe
from mlxft.runs.directory import RunDirectory
from mlxft.runs.events import AnyEvent
from mlxft.runs.view import State
from mlxft_tui.chat.answerer_dialog import AnswererDialog
from mlxft_tui.chat.prompt_input import PromptInput
from mlxft_tui.chat.screen import ChatScreen
from mlxft_tui.chat.turn_view import TurnView
from mlxft_tui.text.answer_lines import AnswerLines
from support.engine import ScriptedEngine, scripted_session
from support.journal import RUN_RECIPE, finished, followed, preparation, training, view_of
from support.session import ScreenApp, screen_text

PROMPT = "Request to JSON: Add 6 peaches"
EXPECTED = '{"item": "peaches", "quantity": 6}'
BASE_ANSWER = "Sure! Here is how to add peaches:\n- open the list\n- write them down"
FIRST_WORD = '{"item":'
RUN_NAME = "SmolLM2-135M-Instruct-lora-1"


def answer(chat: Chat) -> str:
    """The expected answer with an adapter, else that of the base model."""
    has_adapter = chat.question.use_adapter if chat.adapter is None else True
    return EXPECTED if has_adapter else BASE_ANSWER


@dataclass
class ChatPilot:
    """Types into the Chat screen and reads from it."""

    app: ScreenApp
    pilot: Pilot[None]
    engine: ScriptedEngine

    @property
    def screen(self) -> ChatScreen:
        assert isinstance(self.app.place, ChatScreen)
        return self.app.place

    @property
    def line(self) -> PromptInput:
        """The prompt line."""
        return self.app.screen.query_one(PromptInput)

    @property
    def text(self) -> str:
        """The visible text."""
        return screen_text(self.app)

    @property
    def notices(self) -> list[str]:
        """All notices so far."""
        return self.app.notices

    @property
    def notice_text(self) -> str:
        """All notices so far, one per line."""
        return "\n".join(self.notices)

    @property
    def prompts(self) -> list[str]:
        """The prompts in the conversation."""
        return [view.turn.prompt for view in self.app.screen.query(TurnView)]

    @property
    def answers(self) -> list[str]:
        """The text of each answer."""
        return [each.text for each in self._answers]

    @property
    def statuses(self) -> list[str]:
        """The line below each answer."""
        return [each.status for each in self._answers]

    @property
    def _answers(self) -> list[AnswerLines]:
        return [each for view in self.app.screen.query(TurnView) for each in view.answers]

    @property
    def chats(self) -> list[Chat]:
        """The requests to single answerers."""
        return [each for each in self.engine.asked if isinstance(each, Chat)]

    @property
    def chat(self) -> Chat:
        """The only request, to a single answerer."""
        (chat,) = self.engine.asked
        assert isinstance(chat, Chat)
        return chat

    async def press(self, *keys: str) -> None:
        """Press keys, and wait until they took effect."""
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def send(self, text: str = PROMPT) -> None:
        """Type a prompt and send it."""
        self.line.load_text(text)
        await self.pilot.press("enter")

    async def ask(self, text: str = PROMPT) -> None:
        """Send a prompt and wait for the whole answer."""
        await self.send(text)
        await self.idle()

    async def send_until(self, text: str = FIRST_WORD) -> None:
        """Send a prompt and hold the answer up after its first word, `text`."""
        self.engine.holds = asyncio.Event()
        await self.send()
        await self.until(lambda: self.answers[-1:] == [text])

    async def ask_and_stop(self) -> None:
        """Send a prompt, and stop the answer after its first word."""
        await self.send_until()
        await self.pilot.press("escape")
        await self.idle()

    async def choose_models(self, *keys: str) -> None:
        """Open the dialog of the models; press keys in it and choose."""
        await self.pilot.press("escape", "o")
        await self.until(lambda: isinstance(self.app.screen, AnswererDialog))
        await self.press(*keys, *(["enter"] if keys else []))

    async def reopen(self, *keys: str) -> None:
        """Reopen a past conversation: the latest, or after pressing keys in the dialog."""
        await self.press("escape", "h")
        await self.pilot.press(*keys, "enter")
        await self.idle()

    async def idle(self) -> None:
        """Wait until all requests are done."""
        await self.pilot.pause()
        await self.app.workers.wait_for_complete()
        await self.pilot.pause()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds."""
        async with asyncio.timeout(10):
            while not condition():
                await self.pilot.pause()


@asynccontextmanager
async def chatting(
    folder: Path,
    state: State | None = "running",
    recipe: Recipe = RUN_RECIPE,
    *,
    size: tuple[int, int] = (120, 40),
    answer: Callable[[Chat], str] = answer,
    steps: int = 60,
    then: Sequence[AnyEvent] = (),
) -> AsyncIterator[ChatPilot]:
    """A Chat screen that follows a run in that state, or none."""
    socket = Path(os.environ["MLXFT_RUNTIME"]) / "scripted.sock"
    events = [*preparation(), *training(steps), *then]
    if state == "finished":
        events.append(finished())
    run = followed(folder, view_of(events), state, recipe) if state else None
    async with scripted_session(folder, socket, answer) as (session, engine):
        app = ScreenApp(ChatScreen(session), recipe=RUN_RECIPE, run=run)
        async with app.run_test(size=size, notifications=True) as pilot:
            await pilot.pause()
            yield ChatPilot(app, pilot, engine)
            app.workers.cancel_all()


def with_adapter(folder: Path) -> Path:
    """Create the synthetic run's adapter file; returns the run's folder."""
    path = folder / "adapters" / RUN_NAME
    path.mkdir(parents=True)
    (path / "adapters.safetensors").touch()
    return path


def with_name(folder: Path, name: str) -> None:
    """Create the synthetic run's adapter and give the run a name."""
    run = RunDirectory(with_adapter(folder))
    change_labels(run, lambda labels: msgspec.structs.replace(labels, name=name))


def with_checkpoint(folder: Path, step: int) -> Path:
    """Create the synthetic run's adapter and a checkpoint; returns the checkpoint's file."""
    file = with_adapter(folder) / f"{step:07d}_adapters.safetensors"
    file.touch()
    return file


def with_other_run(folder: Path, model: str = RUN_RECIPE.model) -> Path:
    """Create another run with an adapter and a checkpoint of step 50; returns its folder."""
    path = folder / "adapters" / "other-lora-1"
    path.mkdir(parents=True)
    recipes.save(recipes.replace(RUN_RECIPE, "model", model), path / "recipe.yaml")
    for name in ("adapters", "0000050_adapters"):
        (path / f"{name}.safetensors").touch()
    return path


def with_examples(folder: Path) -> None:
    """Write a test set of two records."""
    (folder / "data").mkdir()
    records = [
        {"prompt": PROMPT, "completion": EXPECTED},
        {"prompt": "Request to JSON: Wake me at 7", "completion": '{"time": "7:00"}'},
    ]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "data" / "test.jsonl").write_text(lines)


def records_of(file: Path) -> list[Any]:
    """The records of a JSON lines file."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def remembered(folder: Path) -> list[tuple[str, str, str]]:
    """The prompts of the project's history, each with its answer and how that ended."""
    entries = history.remembered(folder / "adapters" / history.HISTORY_NAME)
    return [(each.prompt, each.answer, each.end) for each in entries]
