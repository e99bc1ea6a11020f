"""Answers on a real terminal: painted completely, and never executed."""

from __future__ import annotations

import asyncio
import base64
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlxft.chat import history
from mlxft.conversation.messages import Answer
from mlxft.engine.mailbox import Call
from mlxft.engine.protocol import Answered, Chat, TextGenerated
from mlxft.runs.directory import create
from mlxft.runs.journal import JournalWriter
from support.engine import answering
from support.journal import LIVE_RECIPE, LiveEngine
from support.terminal import Terminal

Open = Callable[..., Terminal]

COLUMNS, ROWS = 100, 30

HOSTILE = {
    "sequences": "\x1b[2J\x1b[31;1H\x1b]0;gone\x07\x1b]52;c;aGk=\x07\x9b2J\x1b[?1049l\x1bc\r\x08",
    "right to left": "שלום \u202e\u2066abc\u2069 مرحبا بالعالم",
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈👍🏽🇩🇪" * 30 + "é" + "\u0301" * 400,
    "a long line": "x" * 10_000,
    "bomb": ">" * 2000 + "[" * 2000 + "](" * 2000 + "|a" * 500 + "\n" + "- " * 2000,
}


class Script:
    """Answers each request with the next text, in pieces at random times."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = iter(texts)
        self._random = random.Random(7)
        self._tasks: set[asyncio.Task[None]] = set()

    def handle(self, call: Call) -> None:
        if isinstance(call.command, Chat):
            self._tasks.add(asyncio.create_task(self._write(call, next(self._texts))))
        else:
            call.done()

    async def _write(self, call: Call, text: str) -> None:
        at = 0
        while at < len(text):
            piece = text[at : at + self._random.randint(1, max(20, len(text) // 5))]
            call.send(TextGenerated(id=call.id, text=piece))
            at += len(piece)
            await asyncio.sleep(self._random.uniform(0, 0.08))
        call.send(Answered(id=call.id, answer=answer_of(text)))
        call.done()


def answer_of(text: str) -> Answer:
    return Answer(
        text=text,
        finish_reason="stop",
        prompt_tokens=31,
        generated_tokens=9,
        prompt_speed=812.0,
        generation_speed=41.5,
        seconds=1.3,
    )


@contextmanager
def chatting(folder: Path, open_app: Open, texts: Sequence[str]) -> Iterator[Terminal]:
    """The Chat screen attached to a live run that answers with these texts."""
    run, recorded = create(folder / "adapters", LIVE_RECIPE, "scripted"), LiveEngine()
    journal = JournalWriter(run.journal_file)
    for event in (*recorded.start(), *recorded.next_step()):
        journal.append(event)
    with run.locked(), answering(run, Script(texts).handle):
        terminal = open_app(["attach", run.path], COLUMNS, ROWS, folder=folder)
        terminal.wait_for("RUNNING", 60)
        terminal.send("4")
        terminal.wait_for("Ask something")
        yield terminal


class TestAnswers:
    def test_each_answer_is_painted_completely(self, tmp_path: Path, open_app: Open) -> None:
        texts = [f'{{"intent": "message", "number": {"9" * length}}}' for length in range(3, 43, 4)]
        with chatting(tmp_path, open_app, texts) as terminal:
            for number, text in enumerate(texts):
                terminal.send(f"Question {number}\r")
                terminal.wait_for(text)
                terminal.wait_for("Leave prompt")
            assert [text for text in texts[-3:] if text not in terminal.text] == []

    def test_an_answer_is_copied_through_the_terminal(self, tmp_path: Path, open_app: Open) -> None:
        with chatting(tmp_path, open_app, ["Größe: 3"]) as terminal:
            terminal.send("How large?\r")
            terminal.wait_for("41.5 tok/s")
            terminal.send("\x1b")
            terminal.wait_for("Write")
            terminal.send("y")
            terminal.wait_for("Answer copied")
            assert b"\x1b]52;c;" + base64.b64encode("Größe: 3".encode()) in terminal.output

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
    def test_a_partial_answer_is_saved_when_the_viewer_ends(
        self, tmp_path: Path, open_app: Open, number: signal.Signals
    ) -> None:
        with chatting(tmp_path, open_app, ["word " * 10_000]) as terminal:
            terminal.send("Continue\r")
            terminal.wait_for("word word")
            terminal.process.send_signal(number)
            terminal.exit_code()
        (entry,) = history.remembered(tmp_path / "adapters" / history.HISTORY_NAME)
        assert (entry.prompt, entry.end) == ("Continue", "cancelled")
        assert entry.answer.startswith("word word")

    @pytest.mark.parametrize("name", HOSTILE)
    def test_escape_sequences_are_not_executed(
        self, tmp_path: Path, open_app: Open, name: str
    ) -> None:
        with chatting(tmp_path, open_app, [HOSTILE[name], "Fine."]) as terminal:
            before = len(terminal.output)
            terminal.send("Continue\r")
            terminal.wait_for("41.5 tok/s")
            terminal.wait_for("Leave prompt")
            terminal.send("And now?\r")
            terminal.wait_for("Fine.")
            terminal.wait_for("Leave prompt")
            rows = terminal.text.splitlines()
            assert "Data" in rows[0]
            assert "RUNNING" in rows[1]
            assert "Leave prompt" in rows[-1]
            written = terminal.output[before:]
            for sequence in (
                b"\x1b]0;",
                b"\x1b]52",
                b"\x1b[2J",
                b"\x1b[?1049l",
                b"\x1bc",
                b"\x9b2J",
            ):
                assert sequence not in written
