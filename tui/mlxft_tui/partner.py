"""Who answers in a chat: the engine that trains, between two steps, or the model service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

from mlxft.conversation import Message, Question, Sampling
from mlxft.data.dataset import split_file
from mlxft.engine.protocol import AnyReply, CancelChat, Chat, Evaluate, OpenModel, SideBySide
from mlxft.recipe import Recipe
from mlxft_tui.following import FollowedRun
from mlxft_tui.sides import ADAPTER, BASE, Side, adapter_path, in_training

if TYPE_CHECKING:
    from mlxft.engine.client import EngineClient
    from mlxft_tui.session import Session


Asked: TypeAlias = tuple[Side, tuple[Message, ...]]
"""Who is to continue which conversation."""


class Partner:
    """Asks the followed run's engine while it lives, else this viewer's model service."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._asked: EngineClient | None = None
        self._service: EngineClient | None = None
        self._opened: tuple[str, bool] | None = None

    async def answers(
        self,
        asked: Sequence[Asked],
        sampling: Sampling,
        run: FollowedRun | None,
        recipe: Recipe,
    ) -> AsyncIterator[tuple[int, AnyReply]]:
        """The replies as they come, each with the index of who was asked.

        They answer at the same time. Where the run is in training its engine has them all answer
        with the weights in its memory. Raises `EngineError` with a sentence.
        """
        live = in_training(run)
        chats = [self._chat(side, told, sampling, run, live=live) for side, told in asked]
        command = chats[0] if len(chats) == 1 else SideBySide(tuple(chats))
        async for reply in self._replies(command, run, recipe, live=live):
            yield getattr(reply, "side", 0), reply

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

    async def _replies(
        self, command: Chat | SideBySide, run: FollowedRun | None, recipe: Recipe, *, live: bool
    ) -> AsyncIterator[AnyReply]:
        if live and run is not None:
            self._asked = await self._session.engine(run.directory)
        else:
            self._asked = await self._session.service()
            async for reply in self._opening(self._asked, run.recipe if run else recipe, recipe):
                yield reply
        async for reply in self._asked.stream(command):
            yield reply

    async def evaluation(self, run: FollowedRun, recipe: Recipe) -> AsyncIterator[AnyReply]:
        """The replies to an evaluation of a run against its base. Raises `EngineError`."""
        self._asked = await self._session.service()
        async for reply in self._opening(self._asked, run.recipe, recipe):
            yield reply
        folder = self._session.data(run.recipe).resolve()
        sides = (("base", None), ("adapter", str(run.directory.path)))
        split: Literal["test", "valid"] = (
            "test" if split_file(folder, "test").is_file() else "valid"
        )
        command = Evaluate(run.recipe, str(folder), sides, split, Sampling(max_tokens=256))
        async for reply in self._asked.stream(command):
            yield reply

    async def _opening(
        self, client: EngineClient, wanted: Recipe, kept: Recipe
    ) -> AsyncIterator[AnyReply]:
        """Open the run's model where it isn't the one the application keeps open."""
        present = self._opened or self._model(kept)
        restarted = self._service is not None and client is not self._service
        self._service = client
        if restarted or self._model(wanted) != present:
            async for reply in client.stream(OpenModel(wanted.model, wanted.trust_remote_code)):
                yield reply
            self._opened = self._model(wanted)

    def _model(self, recipe: Recipe) -> tuple[str, bool]:
        return str(self._session.path(recipe.model)), recipe.trust_remote_code

    async def restore(self, kept: Recipe) -> None:
        """Open the recipe's model again, which the other places count on."""
        if self._opened is not None and self._opened != self._model(kept):
            self._opened = None
            client = await self._session.service()
            await client.send(OpenModel(kept.model, kept.trust_remote_code))

    async def stop(self) -> None:
        """End the answer in progress within a token."""
        if self._asked is not None:
            await self._asked.send(CancelChat())
