"""One question from the command line, put to a service that is written by hand."""

from __future__ import annotations

from pathlib import Path

from mlxft.conversation import Message, Sampling
from mlxft.engine.protocol import Chat
from mlxft_tui import headless
from quiet import QuietSession

ASKED = (Message("user", "Turn on the lamp."),)


class TestSampling:
    def test_what_is_not_given_is_as_the_models_makers_advise(self, tmp_path: Path) -> None:
        session = QuietSession(tmp_path)
        session.scripted.sampling = Sampling(temperature=0.6, top_p=0.95)
        given = {"temperature": 0.2, "seed": 7}
        assert headless.chat(session, "demo", None, ASKED, given, trust_remote_code=False) == 0
        chat = session.scripted.commands[-1]
        assert isinstance(chat, Chat)
        assert chat.question.sampling == Sampling(temperature=0.2, top_p=0.95, seed=7)
