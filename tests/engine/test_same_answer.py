"""Equal question and seed give equal answers, however they are asked."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from mlxft.conversation.messages import Message, Question, Sampling
from mlxft.engine.client import EngineClient
from mlxft.engine.launch import ModelService
from mlxft.engine.protocol import Answered, AnyCommand, Chat, OpenModel, SaveCheckpoint, SideBySide
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory
from support.project import Project, events_of, eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROMPT = "Turn on lamp 3"
BASE = Question((Message("user", PROMPT),), Sampling(temperature=1.0, seed=5, max_tokens=12), False)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(project: Project) -> AsyncIterator[EngineClient]:
    """The model service on the project's model, as the application has it."""
    service = ModelService()
    client = await service.client()
    await client.send(OpenModel(project.recipe.model))
    yield client
    await service.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def training(endless: RunDirectory) -> AsyncIterator[EngineClient]:
    """The engine of a run that is training."""
    eventually(lambda: any(isinstance(each, ev.StepFinished) for each in events_of(endless)))
    client = await EngineClient.connect(endless.socket_file)
    yield client
    await client.close()


async def texts(client: EngineClient, command: AnyCommand) -> list[str]:
    """The answers, side by side."""
    replies = [each async for each in client.stream(command)]
    return [each.answer.text for each in replies if isinstance(each, Answered)]


class TestSameSeed:
    async def test_the_app_the_command_line_and_a_training_engine_give_the_same_answer(
        self, project: Project, service: EngineClient, training: EngineClient
    ) -> None:
        (answer,) = await texts(service, Chat(BASE))
        assert answer
        assert await texts(training, Chat(BASE)) == [answer]
        drawn = ("--temperature", "1", "--seed", "5", "--max-tokens", "12")
        command = [sys.executable, "-m", "mlxft_tui.cli", "chat", "--model", "model"]
        done = subprocess.run(
            [*command, "--prompt", PROMPT, *drawn],
            cwd=project.folder,
            capture_output=True,
            timeout=120,
        )
        assert done.stdout.decode() == answer + "\n"

    async def test_an_answer_side_by_side_equals_the_answer_alone(
        self, service: EngineClient, training: EngineClient
    ) -> None:
        (answer,) = await texts(service, Chat(BASE))
        tuned = Question(BASE.messages, BASE.sampling)
        base, _ = await texts(training, SideBySide((Chat(BASE), Chat(tuned))))
        assert base == answer

    async def test_a_checkpoint_answers_alike_in_the_training_engine_and_the_service(
        self, project: Project, service: EngineClient, training: EngineClient, endless: RunDirectory
    ) -> None:
        await training.send(SaveCheckpoint())
        saved = await asyncio.to_thread(eventually, lambda: checkpoints(endless))
        chat = Chat(Question(BASE.messages, BASE.sampling), str(saved[-1]))
        (answer,) = await texts(service, chat)
        assert await texts(training, SideBySide((Chat(BASE), chat))) == [
            *await texts(service, Chat(BASE)),
            answer,
        ]

    async def test_the_journal_reports_that_the_run_waits_and_how_long(
        self, training: EngineClient, endless: RunDirectory
    ) -> None:
        seen = events_of(endless)[-1].seq
        await texts(training, Chat(BASE))

        def reported() -> list[ev.AnyEvent]:
            """The journal from the start of the wait on, once it has the cost."""
            events = iter(each for each in events_of(endless) if each.seq > seen)
            since = [next((each for each in events if says_waiting(each)), None), *events]
            ended = any(isinstance(each, ev.ChatAnswered) for each in since)
            return [each for each in since if each is not None] if ended else []

        waiting, *after = await asyncio.to_thread(eventually, reported)
        cost = next(each for each in after if isinstance(each, ev.ChatAnswered))
        between = [each for each in after if waiting.seq < each.seq < cost.seq]
        assert not any(isinstance(each, ev.StepFinished) for each in between)
        assert cost.seconds > 0


def checkpoints(run: RunDirectory) -> list[Path]:
    """The adapters of the checkpoints in the journal."""
    saved = (each for each in events_of(run) if isinstance(each, ev.CheckpointSaved))
    return [run.numbered_adapter_file(each.step) for each in saved]


def says_waiting(event: ev.AnyEvent) -> bool:
    """Whether the run starts to wait for an answer."""
    return isinstance(event, ev.ProgressMade) and event.stage == "answering"
