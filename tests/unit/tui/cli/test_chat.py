"""Commands to a scripted model service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mlxft.conversation.messages import Message, Sampling
from mlxft.engine.protocol import AnyCommand, AnyReply, Chat, MeasureSpeed, OpenModel, Progressed
from mlxft.runs.events import ProgressMade
from mlxft_tui.cli.chat import chat
from mlxft_tui.cli.service import run_on_service
from support.session import QuietSession, ScriptedService

MESSAGES = (Message("user", "Turn on the lamp."),)


class TestSampling:
    def test_defaults_come_from_the_models_generation_config(self, tmp_path: Path) -> None:
        session = QuietSession(tmp_path)
        session.scripted.sampling = Sampling(temperature=0.6, top_p=0.95)
        given = {"temperature": 0.2, "seed": 7}
        status = chat(
            session,
            model="demo",
            adapter=None,
            messages=MESSAGES,
            sampling=given,
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
