"""Who answers in a chat: the engine that trains, between two steps, or the model service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from mlxft.conversation import Message, Question
from mlxft.engine.protocol import AnyReply, CancelChat, Chat, OpenModel
from mlxft.recipe import Recipe
from mlxft_tui.dialogue import Side
from mlxft_tui.following import FollowedRun

if TYPE_CHECKING:
    from mlxft.engine.client import EngineClient
    from mlxft_tui.session import Session


def in_training(run: FollowedRun | None) -> bool:
    """Whether an engine has the run's adapter in memory, or is about to."""
    return run is not None and run.state in ("starting", "running", "paused")


def sides(run: FollowedRun | None) -> tuple[Side, ...]:
    """Who can be talked to, the most interesting first."""
    if run is not None and (in_training(run) or run.directory.adapter_file.is_file()):
        return ("adapter", "base")
    return ("base",)


class Partner:
    """Asks the followed run's engine while it lives, else this viewer's model service."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._asked: EngineClient | None = None
        self._service: EngineClient | None = None
        self._opened: tuple[str, bool] | None = None

    async def answer(
        self, side: Side, messages: tuple[Message, ...], run: FollowedRun | None, recipe: Recipe
    ) -> AsyncIterator[AnyReply]:
        """The replies to a question as they come. Raises `EngineError` with a sentence."""
        question = Question(messages, use_adapter=side == "adapter")
        if run is not None and in_training(run):
            self._asked = await self._session.engine(run.directory)
            chat = Chat(question)
        else:
            self._asked = await self._session.service()
            async for reply in self._opening(self._asked, run.recipe if run else recipe, recipe):
                yield reply
            adapter = str(run.directory.path) if run and side == "adapter" else None
            chat = Chat(question, adapter)
        async for reply in self._asked.stream(chat):
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
