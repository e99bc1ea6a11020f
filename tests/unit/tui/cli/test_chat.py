"""Commands to a scripted model service."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mlxft.adapters.found import FoundAdapter
from mlxft.chat.answerers import ADAPTER
from mlxft.chat.history import HISTORY_NAME, remembered
from mlxft.chat.reopen import conversations, reopened
from mlxft.conversation.messages import Answer, Sampling
from mlxft.engine.protocol import (
    Answered,
    AnyCommand,
    AnyReply,
    Chat,
    MeasureSpeed,
    OpenModel,
    Progressed,
    TextGenerated,
)
from mlxft.errors import DataError
from mlxft.recipe import ChatTemplate, Recipe
from mlxft.runs.events import ProgressMade
from mlxft_tui.cli.chat import NEW, chat, read_prompts
from mlxft_tui.cli.service import run_on_service
from mlxft_tui.cli.status import StatusLine
from support.session import QuietSession, ScriptedService


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Ctrl+c arrives although whoever started the tests may ignore it, as a shell's `&` does."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Talking(ScriptedService):
    """Answers each prompt by its number; the second is interrupted by ctrl+c at its first word."""

    interrupted = 0

    async def stream(self, command: AnyCommand) -> AsyncIterator[AnyReply]:
        async for reply in super().stream(command):
            yield reply
        if not isinstance(command, Chat):
            return
        number = sum(isinstance(each, Chat) for each in self.commands)
        yield TextGenerated(id=1, text=f"answer {number}")
        if number == self.interrupted:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.Event().wait()
        yield Answered(id=1, answer=an_answer(f"answer {number}"))


def an_answer(text: str) -> Answer:
    return Answer(
        text=text,
        finish_reason="stop",
        prompt_tokens=1,
        generated_tokens=1,
        prompt_speed=1.0,
        generation_speed=1.0,
        seconds=1.0,
    )


def talk(folder: Path, prompts: Sequence[str], **options: Any) -> tuple[int, list[list[str]]]:
    """The exit status, and the conversation that each prompt was sent with."""
    session = QuietSession(folder)
    session.scripted = service = Talking()
    service.interrupted = options.pop("interrupted", 0)
    given = {"system": "", "sampling": {}, "model": "demo", "adapter": None, **options}
    status = chat(session, prompts=prompts, trust_remote_code=False, **given)
    asked = [each.question for each in session.scripted.commands if isinstance(each, Chat)]
    return status, [[message.content for message in each.messages] for each in asked]


class TestHistory:
    def test_a_conversation_of_a_project_is_where_the_app_finds_it(self, tmp_path: Path) -> None:
        (tmp_path / "recipe.yaml").touch()
        path = tmp_path.resolve() / "adapters" / "lamps"
        adapter = FoundAdapter(name="lamps", path=path, recipe=Recipe(), is_run=True)
        talk(tmp_path, ["one", NEW, "two"], keep=True, on_terminal=True, adapter=adapter)
        talk(tmp_path, ["unkept"])
        found = conversations(remembered(tmp_path / "adapters" / HISTORY_NAME))
        assert [each.first_prompt for each in found] == ["two", "one"]
        (turn,) = reopened(found[1], "lamps").turns
        assert turn.answers == {ADAPTER: "answer 1"}

    def test_elsewhere_nothing_is_written(self, tmp_path: Path) -> None:
        talk(tmp_path, ["one"], keep=True)
        assert not (tmp_path / "adapters").exists()


class TestConversation:
    def test_the_chosen_template_is_sent_with_each_prompt(self, tmp_path: Path) -> None:
        session = QuietSession(tmp_path)
        session.scripted = Talking()
        chosen = ChatTemplate(arguments={"enable_thinking": False})
        chat(
            session,
            model="demo",
            adapter=None,
            prompts=["one"],
            system="",
            sampling={},
            template=chosen,
            trust_remote_code=False,
        )
        asked = [each for each in session.scripted.commands if isinstance(each, Chat)]
        assert [each.template for each in asked] == [chosen]

    def test_each_prompt_is_sent_with_what_was_said(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        status, asked = talk(tmp_path, ["one", "two"], system="Be kind.")
        assert status == 0
        assert asked == [["Be kind.", "one"], ["Be kind.", "one", "answer 1", "two"]]
        assert capsys.readouterr().out == "answer 1\nanswer 2\n"

    def test_ctrl_c_stops_an_answer_and_not_the_conversation(self, tmp_path: Path) -> None:
        status, asked = talk(tmp_path, ["one", "two", "three"], on_terminal=True, interrupted=2)
        assert status == 0
        assert asked[-1] == ["one", "answer 1", "two", "answer 2", "three"]

    def test_without_a_terminal_ctrl_c_ends_it(self, tmp_path: Path) -> None:
        status, asked = talk(tmp_path, ["one", "two", "three"], interrupted=2)
        assert (status, len(asked)) == (130, 2)

    def test_a_new_conversation_forgets(self, tmp_path: Path) -> None:
        _, asked = talk(tmp_path, ["one", "/new", "two"], on_terminal=True)
        assert asked == [["one"], ["two"]]


class TestOnATerminal:
    def test_progress_is_removed_once_and_never_an_answer(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        status = StatusLine()
        status.progress(ProgressMade(stage="loading", done=0))
        for _ in range(3):
            status.clear()
        assert capsys.readouterr().err.count("\x1b[K") == 2


class TestStandardInput:
    @pytest.mark.parametrize(
        ("whole", "prompts"), [(False, ["one", "two"]), (True, ["one\n\n two"])]
    )
    def test_lines_are_prompts_or_all_is_one(
        self, monkeypatch: pytest.MonkeyPatch, whole: bool, prompts: list[str]
    ) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO("one\n\n two \n"))
        assert list(read_prompts(whole=whole)) == prompts

    def test_nothing_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
        with pytest.raises(DataError, match="holds no prompt"):
            list(read_prompts(whole=False))


class TestSampling:
    def test_defaults_come_from_the_models_generation_config(self, tmp_path: Path) -> None:
        session = QuietSession(tmp_path)
        session.scripted.sampling = Sampling(temperature=0.6, top_p=0.95)
        status = chat(
            session,
            model="demo",
            adapter=None,
            prompts=["Turn on the lamp."],
            system="",
            sampling={"temperature": 0.2, "seed": 7},
            trust_remote_code=False,
        )
        assert status == 0
        command = session.scripted.commands[-1]
        assert isinstance(command, Chat)
        assert command.question.sampling == Sampling(temperature=0.2, top_p=0.95, seed=7)


class Slow(ScriptedService):
    """Reports progress."""

    async def stream(self, command: AnyCommand) -> AsyncIterator[AnyReply]:
        async for reply in super().stream(command):
            yield reply
        if isinstance(command, MeasureSpeed):
            for done in range(4):
                stage = "loading" if done == 0 else "evaluating"
                yield Progressed(id=1, progress=ProgressMade(stage=stage, done=done, total=4))


class TestWithoutATerminal:
    def test_progress_is_printed_in_lines_on_stderr(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        session = QuietSession(tmp_path)
        session.scripted = Slow()
        command = MeasureSpeed(None, 8, 8, 1)
        opening = OpenModel("demo")
        run_on_service(session, opening, command, lambda _: None, in_lines=True)
        out, errors = capsys.readouterr()
        assert out == ""
        assert errors.splitlines() == ["loading 0%", "evaluating 25%"]
