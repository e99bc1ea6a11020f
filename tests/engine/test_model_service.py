"""The model service as a real child process."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from mlxft.conversation.messages import Answer, Message, Question, Sampling
from mlxft.engine.client import EngineClient
from mlxft.engine.launch import ModelService
from mlxft.engine.protocol import (
    Answered,
    CancelChat,
    Chat,
    MeasureTokens,
    ModelOpened,
    OpenModel,
    Pause,
    Ping,
    Preview,
    Previewed,
    Progressed,
    Stop,
    TextGenerated,
    TokensMeasured,
)
from mlxft.errors import EngineError
from mlxft.recipe import Recipe
from mlxft.storage.paths import runtime_dir
from support.models import make_tiny_data, make_tiny_model, record
from support.project import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


@pytest_asyncio.fixture(loop_scope="module")
async def service() -> AsyncIterator[ModelService]:
    service = ModelService()
    yield service
    await service.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(private_folders: None) -> AsyncIterator[ModelService]:
    """A service shared by the tests that leave it unchanged."""
    service = ModelService()
    yield service
    await service.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def opened(shared: ModelService, model: Path) -> EngineClient:
    client = await shared.client()
    await client.send(OpenModel(str(model)))
    return client


def question(**sampling: float) -> Question:
    return Question((Message("user", "Turn on the lamp."),), Sampling(**sampling))


def services() -> set[psutil.Process]:
    """The model services of this process."""
    found = psutil.Process().children()
    return {each for each in found if "serve" in each.cmdline()}


async def answer(client: EngineClient, question: Question) -> tuple[str, Answer]:
    text, answers = "", []
    async for reply in client.stream(Chat(question)):
        if isinstance(reply, TextGenerated):
            text += reply.text
        elif isinstance(reply, Answered):
            answers.append(reply.answer)
    return text, answers[0]


class TestOpening:
    async def test_a_model_is_opened_with_its_configuration_and_the_backend(
        self, opened: EngineClient, model: Path
    ) -> None:
        replies = [each async for each in opened.stream(OpenModel(str(model)))]
        (found,) = [each for each in replies if isinstance(each, ModelOpened)]
        assert found.path == str(model)
        assert found.config["model_type"] == "llama"
        assert found.has_chat_template
        assert found.backend.kind in ("cpu", "metal", "cuda")

    async def test_a_folder_without_a_model_is_refused_and_the_service_keeps_running(
        self, opened: EngineClient, model: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(EngineError, match="not an MLX model folder"):
            await opened.send(OpenModel(str(tmp_path)))
        await opened.send(OpenModel(str(model)))

    async def test_a_relative_path_starts_in_the_projects_folder(self, model: Path) -> None:
        service = ModelService(model.parent)
        try:
            client = await service.client()
            await client.send(OpenModel(f"./{model.name}"))
        finally:
            await service.close()

    async def test_what_needs_a_model_or_a_run_is_refused_without_one(
        self, service: ModelService
    ) -> None:
        client = await service.client()
        with pytest.raises(EngineError, match="No model is open"):
            await client.send(Chat(question()))
        with pytest.raises(EngineError, match="no run to control"):
            await client.send(Pause())


class TestPreview:
    async def test_a_record_is_shown_as_tokens(self, opened: EngineClient) -> None:
        command = Preview(record(0), Recipe(train_on="last_answer", max_seq_length=256))
        (reply,) = [each async for each in opened.stream(command)]
        assert isinstance(reply, Previewed)
        trained = "".join(piece.text for piece in reply.view.pieces if piece.trained)
        assert record(0)["completion"] in trained
        assert record(0)["prompt"] not in trained

    async def test_a_broken_record_is_refused_with_a_reason(self, opened: EngineClient) -> None:
        with pytest.raises(EngineError, match="This record"):
            await opened.send(Preview({"messages": []}, Recipe(max_seq_length=64)))


class TestMeasuring:
    async def test_a_files_tokens_are_counted_and_cached(
        self, opened: EngineClient, tmp_path: Path
    ) -> None:
        make_tiny_data(tmp_path, train=12, valid=0)
        command = MeasureTokens(str(tmp_path / "train.jsonl"), Recipe(train_on="last_answer"))
        for _ in range(2):
            replies = [each async for each in opened.stream(command)]
            (reply,) = [each for each in replies if isinstance(each, TokensMeasured)]
            assert reply.share == 1.0
            assert (reply.figures.records, reply.figures.measured) == (12, 12)
            assert 0 < reply.figures.trained_tokens < reply.figures.tokens

    async def test_a_preview_is_answered_meanwhile(
        self, opened: EngineClient, tmp_path: Path
    ) -> None:
        make_tiny_data(tmp_path, train=20_000, valid=0)
        stream = opened.stream(MeasureTokens(str(tmp_path / "train.jsonl"), Recipe()))
        sample = await anext(stream)
        assert isinstance(sample, TokensMeasured)
        assert not sample.figures.whole
        await opened.send(Preview(record(0), Recipe()))
        await opened.send(MeasureTokens(str(tmp_path / "train.jsonl"), Recipe(), whole=False))
        with pytest.raises(EngineError, match="Another file is being measured now"):
            async for _ in stream:
                pass

    async def test_a_missing_file_is_refused(self, opened: EngineClient, tmp_path: Path) -> None:
        with pytest.raises(EngineError, match="no such file"):
            await opened.send(MeasureTokens(str(tmp_path / "train.jsonl"), Recipe()))


class TestChat:
    async def test_the_streamed_pieces_make_up_the_answer(self, opened: EngineClient) -> None:
        text, whole = await answer(opened, question(max_tokens=12))
        assert whole.text == text
        assert 0 < whole.generated_tokens <= 12

    async def test_equal_seeds_give_equal_answers(self, opened: EngineClient) -> None:
        drawn = [await answer(opened, question(temperature=1.0, seed=3)) for _ in range(2)]
        assert drawn[0][0] == drawn[1][0]

    async def test_a_refused_sampling_leaves_the_service_usable(self, opened: EngineClient) -> None:
        with pytest.raises(EngineError, match="top_k"):
            await opened.send(Chat(question(top_k=10_000_000)))
        assert (await answer(opened, question(max_tokens=3)))[1].generated_tokens

    async def test_cancel_ends_a_long_answer(self, opened: EngineClient) -> None:
        endless = question(max_tokens=100_000)
        answers = []
        async for reply in opened.stream(Chat(endless)):
            if isinstance(reply, TextGenerated):
                await opened.send(CancelChat())
            elif isinstance(reply, Answered):
                answers.append(reply.answer)
        assert answers[0].finish_reason == "cancelled"

    async def test_loading_the_weights_is_reported(self, opened: EngineClient) -> None:
        replies = [each async for each in opened.stream(Chat(question(max_tokens=1)))]
        assert isinstance(replies[0], Progressed)
        assert replies[0].progress.stage == "loading"


class TestLifetime:
    async def test_it_is_started_once_and_ends_when_closed(self, service: ModelService) -> None:
        before = services()
        first, second = await asyncio.gather(service.client(), service.client())
        assert first is second
        (process,) = services() - before
        await service.close()
        assert not process.is_running()

    async def test_a_killed_service_is_started_again(self, service: ModelService) -> None:
        before = services()
        client = await service.client()
        (process,) = services() - before
        process.kill()
        with pytest.raises(EngineError):
            await client.send(OpenModel("demo"))
        await (await service.client()).send(Ping())

    async def test_it_ends_on_request(self, service: ModelService) -> None:
        before = services()
        client = await service.client()
        (process,) = services() - before
        await client.send(Stop())
        await asyncio.to_thread(process.wait, 30)

    async def test_it_ends_when_its_parent_is_killed(self) -> None:
        code = (
            "import asyncio\n"
            "from mlxft.engine.launch import ModelService\n"
            "async def main():\n"
            "    await ModelService().client()\n"
            "    print('up', flush=True)\n"
            "    await asyncio.sleep(600)\n"
            "asyncio.run(main())\n"
        )
        parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        (child,) = psutil.Process(parent.pid).children()
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        parent.stdout.close()
        eventually(lambda: not child.is_running())


class TestDeadSockets:
    async def test_the_sockets_of_killed_services_are_removed(self) -> None:
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        dead, own = (runtime_dir() / f"service-{pid}-99.sock" for pid in (gone.pid, os.getpid()))
        for path in (dead, own):
            with socket.socket(socket.AF_UNIX) as left:
                left.bind(str(path))
        service = ModelService()
        try:
            await service.client()
            assert not dead.exists()
            assert own.exists()
        finally:
            own.unlink()
            await service.close()
