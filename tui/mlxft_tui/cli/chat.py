"""`mlxft-tui chat`: one answer on stdout, or a conversation."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from mlxft.adapters.found import FoundAdapter
from mlxft.chat import history
from mlxft.chat.answerers import ADAPTER, BASE
from mlxft.chat.dialogue import ENDINGS, Dialogue, End, Turn, messages
from mlxft.chat.reopen import history_entry
from mlxft.conversation.messages import Message, Question, Sampling
from mlxft.engine.protocol import (
    Answered,
    Chat,
    ModelOpened,
    OpenModel,
    Progressed,
    TextGenerated,
)
from mlxft.errors import DataError, EngineError, StorageError
from mlxft.recipe import ChatTemplate
from mlxft.text.printable import printable
from mlxft_tui.cli.following import INTERRUPTED
from mlxft_tui.cli.status import StatusLine
from mlxft_tui.session import Session

NEW: Final = "/new"
"""Typed on a terminal, it begins another conversation."""

WELCOME: Final = (
    "A line is a message, \\ at its end continues it on the next. ctrl+c stops an answer, /new "
    "begins another conversation, ctrl+d leaves."
)


def chat(
    session: Session,
    *,
    model: str,
    adapter: FoundAdapter | None,
    prompts: Iterable[str],
    system: str,
    sampling: Mapping[str, Any],
    template: ChatTemplate | None = None,
    trust_remote_code: bool,
    on_terminal: bool = False,
    keep: bool = False,
) -> int:
    """Answer prompts as one conversation, with the base model or an adapter.

    `sampling` overrides fields of the model's generation config, `template` replaces the base
    model's. With `on_terminal` ctrl+c stops an answer, and a refused prompt doesn't end the
    conversation; with `keep` the conversation is kept in the project's history. Raises
    `MlxftError`.
    """
    opening = OpenModel(model, trust_remote_code)
    with asyncio.Runner() as runner, StatusLine() as status:
        conversation = _Conversation(session, model, adapter, system, status)
        conversation.template = template
        conversation.is_kept = keep and session.is_project
        try:
            runner.run(conversation.open(opening, sampling))
            for prompt in prompts:
                if not on_terminal:
                    runner.run(conversation.answer(prompt))
                elif prompt == NEW:
                    conversation.begin()
                else:
                    _answer_typed(runner, conversation, prompt, status)
        except KeyboardInterrupt:
            return INTERRUPTED
        finally:
            runner.run(session.close())
    return 0


def _answer_typed(
    runner: asyncio.Runner, conversation: _Conversation, prompt: str, status: StatusLine
) -> None:
    """Answer a prompt from the terminal; a refusal or ctrl+c ends this answer alone."""
    try:
        runner.run(conversation.answer(prompt))
    except EngineError as error:
        status.say(f"mlxft-tui: {error}")
    except KeyboardInterrupt:
        status.say(f" {ENDINGS['cancelled']}")


def typed_prompts() -> Iterator[str]:
    """Prompts typed on a terminal, until ctrl+d; ctrl+c only empties the line."""
    # Imported for its effect: lines can be edited, and the arrow keys recall earlier ones.
    import readline  # noqa: F401

    print(WELCOME, file=sys.stderr)
    while True:
        try:
            text = _typed_prompt()
        except KeyboardInterrupt:
            print("\nctrl+d leaves", file=sys.stderr)
        except EOFError:
            print(file=sys.stderr)
            return
        else:
            if text.strip():
                yield text.strip()


def _typed_prompt() -> str:
    lines = [input("> ")]
    while lines[-1].endswith("\\"):
        lines[-1] = lines[-1][:-1]
        lines.append(input("  "))
    return "\n".join(lines)


def read_prompts(*, whole: bool) -> Iterator[str]:
    """Prompts from standard input: one of each line, or one of all. Raises `DataError`."""
    try:
        texts = [sys.stdin.read()] if whole else sys.stdin
        found = False
        for text in texts:
            if text.strip():
                found = True
                yield text.strip()
    except UnicodeDecodeError:
        raise DataError("Standard input: this is not UTF-8 text; convert it first.") from None
    if not found:
        raise DataError("Standard input holds no prompt; write one, or give it by --prompt.")


class _Conversation:
    """A conversation with one answerer, each coroutine to be run on its own."""

    def __init__(
        self,
        session: Session,
        model: str,
        adapter: FoundAdapter | None,
        system: str,
        status: StatusLine,
    ) -> None:
        self.is_kept = False
        """Whether answers are added to the project's history."""
        self.template: ChatTemplate | None = None
        """The chat template in place of the base model's."""
        self._session = session
        self._model = model
        self._adapter = adapter
        self._answerer = ADAPTER if adapter else BASE
        self._system = system
        self._status = status
        self._sampling = Sampling()
        self._dialogue = Dialogue()

    def begin(self) -> None:
        """Forget what was said."""
        self._dialogue = Dialogue()

    async def open(self, opening: OpenModel, sampling: Mapping[str, Any]) -> None:
        """Open the model in a model service. Raises `EngineError`."""
        client = await self._session.service()
        async for reply in client.stream(opening):
            if isinstance(reply, Progressed):
                self._status.progress(reply.progress)
            elif isinstance(reply, ModelOpened):
                self._sampling = msgspec.structs.replace(reply.sampling, **sampling)
        self._status.clear()

    async def answer(self, prompt: str) -> None:
        """Answer a prompt after those before it; a cancelled answer keeps its text so far.

        Raises `EngineError`.
        """
        turn = Turn(prompt, titles={self._answerer: self._answerer.title()})
        self._dialogue.add(turn)
        asked = messages(self._dialogue.turns, self._answerer, self._system)
        question = Question(asked, self._sampling, use_adapter=self._adapter is not None)
        path = str(self._adapter.path) if self._adapter else None
        command = Chat(question, path, self.template)
        pieces: list[str] = []
        end: End = "cancelled"
        client = await self._session.service()
        try:
            async for reply in client.stream(command):
                if isinstance(reply, Progressed):
                    self._status.progress(reply.progress)
                elif isinstance(reply, TextGenerated):
                    self._status.clear()
                    pieces.append(reply.text)
                    shown = printable(reply.text) if sys.stdout.isatty() else reply.text
                    print(shown, end="", flush=True)
                elif isinstance(reply, Answered):
                    end = reply.answer.finish_reason
        finally:
            self._status.clear()
            turn.add(self._answerer, "".join(pieces), end)
            if pieces or end != "cancelled":
                print(flush=True)
                self._keep(turn, asked)

    def _keep(self, turn: Turn, asked: tuple[Message, ...]) -> None:
        """Add an answer to the project's history."""
        if not self.is_kept:
            return
        entry = history_entry(
            self._dialogue,
            turn,
            self._answerer,
            asked,
            followed=self._adapter_name(),
            model=self._model,
            sampling=self._sampling,
            time=time.time(),
        )
        try:
            history.remember(self._session.adapters / history.HISTORY_NAME, entry)
        except StorageError as error:
            self._status.say(f"mlxft-tui: {error}")

    def _adapter_name(self) -> str:
        """The run's name; of one of its files or an adapter from elsewhere the path."""
        if self._adapter is None:
            return ""
        path = self._adapter.path
        return path.name if path.parent == self._session.adapters.resolve() else str(path)
