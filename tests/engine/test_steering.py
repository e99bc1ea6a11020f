"""A run controlled over its socket, confirmed by its journal."""

from __future__ import annotations

import asyncio
import os
import random
import stat
from collections.abc import AsyncIterator
from typing import TypeVar

import pytest

from mlxft.conversation.messages import Answer, Message, Question, Sampling
from mlxft.engine.client import EngineClient
from mlxft.engine.protocol import (
    Answered,
    CancelChat,
    Chat,
    Continue,
    OpenModel,
    Pause,
    Ping,
    SaveCheckpoint,
    SetLearningRate,
    TextGenerated,
    Validate,
)
from mlxft.errors import EngineError
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory
from mlxft.runs.followed import read_run
from support.project import events_of, eventually

E = TypeVar("E", bound=ev.Event)


@pytest.fixture
async def client(endless: RunDirectory) -> AsyncIterator[EngineClient]:
    await next_step(endless)
    client = await EngineClient.connect(endless.socket_file)
    yield client
    await client.close()


def last_seq(run: RunDirectory) -> int:
    events = events_of(run)
    return events[-1].seq if events else 0


async def confirmed(run: RunDirectory, kind: type[E], after: int) -> E:
    """The first event of this kind after the given one."""

    def look() -> E | None:
        found = (e for e in events_of(run) if isinstance(e, kind) and e.seq > after)
        return next(found, None)

    event = await asyncio.to_thread(eventually, look)
    assert event is not None
    return event


async def next_step(run: RunDirectory) -> int:
    return (await confirmed(run, ev.StepFinished, last_seq(run))).step


def question(text: str = "Turn on lamp 3", **sampling: float) -> Question:
    return Question((Message("user", text),), Sampling(**sampling))


async def ask(client: EngineClient, question: Question) -> tuple[str, Answer]:
    text, answers = "", []
    async for reply in client.stream(Chat(question)):
        if isinstance(reply, TextGenerated):
            text += reply.text
        elif isinstance(reply, Answered):
            answers.append(reply.answer)
    return text, answers[0]


class TestPause:
    async def test_no_step_is_trained_while_paused(
        self, client: EngineClient, endless: RunDirectory
    ) -> None:
        before = last_seq(endless)
        await client.send(Pause())
        paused = await confirmed(endless, ev.RunPaused, before)
        assert read_run(endless).state == "paused"
        await ask(client, question(max_tokens=2))
        await client.send(Continue())
        continued = await confirmed(endless, ev.RunContinued, paused.seq)
        assert continued.step == paused.step
        assert continued.paused_seconds > 0
        between = [e for e in events_of(endless) if paused.seq < e.seq < continued.seq]
        assert not any(isinstance(each, ev.StepFinished) for each in between)
        assert any(isinstance(each, ev.ChatAnswered) for each in between)
        assert await next_step(endless) > paused.step

    async def test_a_checkpoint_can_be_saved_meanwhile(
        self, client: EngineClient, endless: RunDirectory
    ) -> None:
        before = last_seq(endless)
        await client.send(Pause())
        paused = await confirmed(endless, ev.RunPaused, before)
        await client.send(SaveCheckpoint())
        saved = await confirmed(endless, ev.CheckpointSaved, paused.seq)
        assert saved.step == paused.step
        assert read_run(endless).state == "paused"
        await client.send(Continue())
        await confirmed(endless, ev.RunContinued, paused.seq)

    async def test_the_validation_set_can_be_run_meanwhile(
        self, client: EngineClient, endless: RunDirectory
    ) -> None:
        before = last_seq(endless)
        await client.send(Pause())
        paused = await confirmed(endless, ev.RunPaused, before)
        await client.send(Validate())
        validated = await confirmed(endless, ev.ValidationFinished, paused.seq)
        assert validated.step == paused.step
        assert read_run(endless).state == "paused"
        await client.send(Continue())
        await confirmed(endless, ev.RunContinued, validated.seq)
        between = [e for e in events_of(endless) if paused.seq < e.seq < validated.seq]
        assert not any(isinstance(each, ev.StepFinished) for each in between)

    async def test_pausing_twice_and_continuing_twice_counts_once(
        self, client: EngineClient, endless: RunDirectory
    ) -> None:
        before = last_seq(endless)
        for command in (Pause(), Pause(), Continue(), Continue()):
            await client.send(command)
        await confirmed(endless, ev.RunContinued, before)
        await next_step(endless)
        since = [e for e in events_of(endless) if e.seq > before]
        assert sum(isinstance(each, ev.RunPaused) for each in since) == 1
        assert sum(isinstance(each, ev.RunContinued) for each in since) == 1


class TestCommands:
    async def test_a_checkpoint_now(self, client: EngineClient, endless: RunDirectory) -> None:
        before = last_seq(endless)
        await client.send(SaveCheckpoint())
        saved = await confirmed(endless, ev.CheckpointSaved, before)
        assert (endless.path / saved.path).is_dir()
        assert endless.adapter_file.is_file()

    async def test_a_validation_now(self, client: EngineClient, endless: RunDirectory) -> None:
        before = last_seq(endless)
        await client.send(Validate())
        validated = await confirmed(endless, ev.ValidationFinished, before)
        assert validated.loss > 0

    async def test_a_learning_rate_takes_effect_at_the_next_update(
        self, client: EngineClient, endless: RunDirectory
    ) -> None:
        before = last_seq(endless)
        await client.send(SetLearningRate(3e-7))
        changed = await confirmed(endless, ev.LearningRateChanged, before)
        step = await confirmed(endless, ev.StepFinished, changed.seq)
        assert step.learning_rate == pytest.approx(3e-7)
        since = [e for e in events_of(endless) if e.seq > before]
        assert sum(isinstance(each, ev.LearningRateChanged) for each in since) == 1

    @pytest.mark.parametrize("rate", [-1.0, 11.0])
    async def test_an_invalid_learning_rate_is_refused(
        self, client: EngineClient, rate: float
    ) -> None:
        with pytest.raises(EngineError, match=r"learning_rate is .* must be a number"):
            await client.send(SetLearningRate(rate))

    async def test_a_command_of_the_model_service_is_refused(self, client: EngineClient) -> None:
        with pytest.raises(EngineError, match="trains a run"):
            await client.send(OpenModel("demo"))


class TestChat:
    async def test_the_run_answers_and_continues(
        self, client: EngineClient, endless: RunDirectory
    ) -> None:
        before = last_seq(endless)
        text, answer = await ask(client, question(max_tokens=5))
        assert answer.text == text
        confirmation = await confirmed(endless, ev.ChatAnswered, before)
        assert confirmation.tokens == answer.generated_tokens
        await next_step(endless)

    async def test_the_base_model_answers_on_request(self, client: EngineClient) -> None:
        base = Question((Message("user", "Turn on lamp 3"),), Sampling(max_tokens=5), False)
        assert (await ask(client, base))[1].generated_tokens

    async def test_cancel_takes_effect_within_the_answer(self, client: EngineClient) -> None:
        answers = []
        async for reply in client.stream(Chat(question(max_tokens=100_000))):
            if isinstance(reply, TextGenerated):
                await client.send(CancelChat())
            elif isinstance(reply, Answered):
                answers.append(reply.answer)
        assert answers[0].finish_reason == "cancelled"

    async def test_a_refused_question_costs_the_run_nothing(
        self, client: EngineClient, endless: RunDirectory
    ) -> None:
        with pytest.raises(EngineError, match="top_p"):
            await client.send(Chat(question(top_p=7.0)))
        await next_step(endless)

    async def test_a_caller_that_hangs_up_frees_the_run(self, endless: RunDirectory) -> None:
        caller = await EngineClient.connect(endless.socket_file)
        replies = caller.stream(Chat(question(max_tokens=100_000)))
        await anext(replies)
        await caller.close()
        await next_step(endless)


class TestItsSocket:
    async def test_garbage_on_the_socket_does_not_end_the_run(self, endless: RunDirectory) -> None:
        noise = random.Random(0)
        for _ in range(30):
            reader, writer = await asyncio.open_unix_connection(endless.socket_file)
            writer.write(noise.randbytes(noise.randrange(1, 5000)) + b"\n")
            writer.write_eof()
            await asyncio.wait_for(reader.read(), 10)
            writer.close()
        await next_step(endless)

    async def test_two_viewers_can_control_one_run(
        self, client: EngineClient, endless: RunDirectory
    ) -> None:
        other = await EngineClient.connect(endless.socket_file)
        await asyncio.gather(client.send(Ping()), other.send(Ping()))
        await other.close()

    def test_socket_and_run_are_private_to_their_owner(self, endless: RunDirectory) -> None:
        def mode(path: os.PathLike[str]) -> int:
            return stat.S_IMODE(os.stat(path).st_mode)

        assert mode(endless.socket_file) == 0o600
        assert mode(endless.path) == 0o700
        for path in (endless.journal_file, endless.log_file, endless.lock_file):
            assert mode(path) == 0o600


class TestTelemetry:
    async def test_machine_and_mlx_memory_are_sampled(self, endless: RunDirectory) -> None:
        await next_step(endless)
        sampled = await confirmed(endless, ev.MachineSampled, last_seq(endless))
        assert sampled.active_memory
        assert sampled.peak_memory
        assert sampled.resident_memory
        assert sampled.sample.memory_total
