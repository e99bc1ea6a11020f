"""One question from the command line, put to a service that is written by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mlxft.conversation.messages import Message, Sampling
from mlxft.engine.protocol import AnyCommand, AnyReply, Chat, MeasureSpeed, OpenModel, Progressed
from mlxft.runs.events import ProgressMade
from mlxft_tui.cli import runs
from support.quiet import QuietSession, ScriptedService

ASKED = (Message("user", "Turn on the lamp."),)


class TestSampling:
    def test_what_is_not_given_is_as_the_models_makers_advise(self, tmp_path: Path) -> None:
        session = QuietSession(tmp_path)
        session.scripted.sampling = Sampling(temperature=0.6, top_p=0.95)
        given = {"temperature": 0.2, "seed": 7}
        assert runs.chat(session, "demo", None, ASKED, given, trust_remote_code=False) == 0
        chat = session.scripted.commands[-1]
        assert isinstance(chat, Chat)
        assert chat.question.sampling == Sampling(temperature=0.2, top_p=0.95, seed=7)


class Slow(ScriptedService):
    """Tells how far its work is."""

    async def stream(self, command: AnyCommand) -> AsyncIterator[AnyReply]:
        async for reply in super().stream(command):
            yield reply
        if isinstance(command, MeasureSpeed):
            for done in range(4):
                stage = "loading" if done == 0 else "evaluating"
                yield Progressed(id=1, progress=ProgressMade(stage=stage, done=done, total=4))


class TestWithoutATerminal:
    def test_how_far_it_is_comes_line_by_line_on_stderr(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        session = QuietSession(tmp_path)
        session.scripted = Slow()
        command = MeasureSpeed(None, 8, 8, 1)
        opening = OpenModel("demo")
        runs.ask_service(session, opening, command, lambda _: None, in_lines=True)
        out, told = capsys.readouterr()
        assert out == ""
        assert told.splitlines() == ["loading 0%", "evaluating 25%"]
