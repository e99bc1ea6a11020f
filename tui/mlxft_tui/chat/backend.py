"""Who answers in a chat: the engine that trains, between two steps, or the model service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from mlxft.chat.answerers import ADAPTER, BASE, Side, adapter_path, in_training
from mlxft.conversation.messages import Message, Question, Sampling
from mlxft.data.dataset import split_file
from mlxft.engine.protocol import (
    AnyReply,
    CancelChat,
    Chat,
    Evaluate,
    ModelOpened,
    OpenModel,
    SideBySide,
)
from mlxft.recipe import Recipe
from mlxft.runs.followed import FollowedRun

if TYPE_CHECKING:
    from mlxft.engine.client import EngineClient
    from mlxft_tui.session import Session


PendingCommand: TypeAlias = tuple[Side, tuple[Message, ...]]
"""Who is to continue which conversation."""


class ChatBackend:
    """Asks the followed run's engine while it lives, else this viewer's model service."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._asked: EngineClient | None = None
        self._service: EngineClient | None = None
        self._opened: dict[tuple[Path, bool], ModelOpened] = {}

    def model(
        self, run: FollowedRun | None, recipe: Recipe, kept: ModelOpened | None
    ) -> ModelOpened | None:
        """The model that answers, as far as it is known; `kept` is the recipe's."""
        wanted = self._model(run.recipe if run else recipe)
        return kept if wanted == self._model(recipe) else self._opened.get(wanted)

    async def opening(self, run: FollowedRun | None, recipe: Recipe) -> AsyncIterator[AnyReply]:
        """Have the model that answers opened, where the service has another open, or none.

        Raises `EngineError` with a sentence.
        """
        if in_training(run):
            return
        wanted = run.recipe if run else recipe
        self._asked = self._service = service = await self._session.service()
        if service.model is None or self._model(service.model) != self._model(wanted):
            async for reply in service.stream(OpenModel(wanted.model, wanted.trust_remote_code)):
                if isinstance(reply, ModelOpened):
                    self._opened[self._model(wanted)] = reply
                yield reply

    async def answers(
        self, asked: Sequence[PendingCommand], sampling: Sampling, run: FollowedRun | None
    ) -> AsyncIterator[tuple[int, AnyReply]]:
        """The replies as they come, each with the index of who was asked; the model must be open.

        They answer at the same time. Where the run is in training its engine has them all answer
        with the weights in its memory. Raises `EngineError` with a sentence.
        """
        live = in_training(run)
        chats = [self._chat(side, told, sampling, run, live=live) for side, told in asked]
        command = chats[0] if len(chats) == 1 else SideBySide(tuple(chats))
        async for reply in (await self._client(run)).stream(command):
            yield getattr(reply, "side", 0), reply

    async def _client(self, run: FollowedRun | None) -> EngineClient:
        """Who has the model that answers; the service with which it was opened."""
        if in_training(run) and run is not None:
            self._asked = await self._session.engine(run.directory)
        else:
            self._asked = self._service or await self._session.service()
        return self._asked

    def _chat(
        self,
        side: Side,
        messages: tuple[Message, ...],
        sampling: Sampling,
        run: FollowedRun | None,
        *,
        live: bool,
    ) -> Chat:
        question = Question(messages, sampling, use_adapter=side != BASE)
        if live and side == ADAPTER:
            return Chat(question)
        adapter = adapter_path(side, run, self._session.adapters.resolve())
        return Chat(question, str(adapter) if adapter else None)

    async def evaluation(
        self, run: FollowedRun, named: Sequence[tuple[Side, str]]
    ) -> AsyncIterator[AnyReply]:
        """The replies to an evaluation of two sides, of which the last is judged.

        They are named as given. The model must be open. Raises `EngineError`.
        """
        folder = self._session.data(run.recipe).resolve()
        adapters = self._session.adapters.resolve()
        paths = [adapter_path(side, run, adapters) for side, _ in named]
        sides = tuple(
            (name, str(path) if path else None)
            for (_, name), path in zip(named, paths, strict=True)
        )
        split: Literal["test", "valid"] = (
            "test" if split_file(folder, "test").is_file() else "valid"
        )
        command = Evaluate(run.recipe, str(folder), sides, split, Sampling(max_tokens=256))
        async for reply in (await self._client(None)).stream(command):
            yield reply

    def _model(self, recipe: Recipe | OpenModel) -> tuple[Path, bool]:
        return self._session.path(recipe.model).resolve(), recipe.trust_remote_code

    async def restore(self, kept: Recipe) -> None:
        """Open the recipe's model again, which the other places count on.

        Raises `EngineError`.
        """
        service, self._service = self._service, None
        if service is None or service.closed or not kept.model:
            return
        if service.model is None or self._model(service.model) != self._model(kept):
            await service.send(OpenModel(kept.model, kept.trust_remote_code))

    async def stop(self) -> None:
        """End the answer in progress within a token."""
        if self._asked is not None:
            await self._asked.send(CancelChat())
