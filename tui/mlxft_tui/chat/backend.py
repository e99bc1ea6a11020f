"""Sends chat requests to the training engine or to the model service."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from mlxft.chat.answerers import ADAPTER, BASE, Answerer, adapter_path, in_training
from mlxft.conversation.messages import Message, Question, Sampling
from mlxft.data.containers import exists
from mlxft.data.split_files import split_file
from mlxft.engine.protocol import (
    AnyReply,
    CancelChat,
    Chat,
    Evaluate,
    ModelOpened,
    OpenModel,
    SideBySide,
)
from mlxft.errors import DataError, MlxftError
from mlxft.recipe import ChatTemplate, Recipe
from mlxft.runs.followed import FollowedRun

if TYPE_CHECKING:
    from mlxft.data.folder_view import DataView
    from mlxft.data.split_files import SplitName
    from mlxft.engine.client import EngineClient
    from mlxft.runs.directory import RunDirectory
    from mlxft_tui.chat.evaluation_dialog import EvaluationPlan
    from mlxft_tui.session import Session


ChatRequest: TypeAlias = tuple[Answerer, tuple[Message, ...]]
"""An answerer and the conversation it continues."""


class ChatBackend:
    """Asks the followed run's engine while it lives, else this viewer's model service."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._asked: EngineClient | None = None
        self._service: EngineClient | None = None
        self._opened: dict[tuple[Path, bool], ModelOpened] = {}
        self._template: ChatTemplate | None = None
        """What the base model answers with in place of its own chat template."""
        self._warned: set[str] = set()

    def model(
        self, run: FollowedRun | None, recipe: Recipe, recipe_model: ModelOpened | None
    ) -> ModelOpened | None:
        """The model that answers, if known; `recipe_model` is the recipe's."""
        wanted = self._key(run.recipe if run else recipe)
        return recipe_model if wanted == self._key(recipe) else self._opened.get(wanted)

    async def opening(self, run: FollowedRun | None, recipe: Recipe) -> AsyncIterator[AnyReply]:
        """Open the model that answers, unless the service has it open. Raises `EngineError`."""
        if in_training(run):
            return
        wanted = run.recipe if run else recipe
        self._asked = self._service = service = await self._session.service()
        self._template = kept_template(run.directory) if run else recipe.template
        if service.model is None or self._key(service.model) != self._key(wanted):
            async for reply in service.stream(OpenModel(wanted.model, wanted.trust_remote_code)):
                if isinstance(reply, ModelOpened):
                    self._opened[self._key(wanted)] = reply
                yield reply

    async def answers(
        self, requests: Sequence[ChatRequest], sampling: Sampling, run: FollowedRun | None
    ) -> AsyncIterator[tuple[int, AnyReply]]:
        """The replies as they come, each with the index of its request; the model must be open.

        All requests are answered at the same time, by the engine's weights if the run is training.
        Raises `EngineError`.
        """
        chats = [self._chat(each, messages, sampling, run) for each, messages in requests]
        command = chats[0] if len(chats) == 1 else SideBySide(tuple(chats))
        async for reply in (await self._client(run)).stream(command):
            yield getattr(reply, "side", 0), reply

    def new_warnings(self, answerers: Iterable[Answerer], run: FollowedRun | None) -> list[str]:
        """What was not yet said of adapters that were trained on other weights; reads files."""
        adapters, found = self._session.adapters.resolve(), []
        for each in answerers if run is not None else ():
            path = adapter_path(each, run, adapters)
            if path is None or run is None or (each == ADAPTER and in_training(run)):
                continue
            with contextlib.suppress(MlxftError):  # The answer will say it.
                found.append(self._session.adapter_warning(path, run.recipe.model))
        new = [each for each in dict.fromkeys(found) if each and each not in self._warned]
        self._warned.update(new)
        return new

    async def _client(self, run: FollowedRun | None) -> EngineClient:
        """The engine that has the model in memory."""
        if in_training(run) and run is not None:
            self._asked = await self._session.engine(run.directory)
        else:
            self._asked = self._service or await self._session.service()
        return self._asked

    def _chat(
        self,
        answerer: Answerer,
        messages: tuple[Message, ...],
        sampling: Sampling,
        run: FollowedRun | None,
    ) -> Chat:
        question = Question(messages, sampling, use_adapter=answerer != BASE)
        if in_training(run) and answerer == ADAPTER:
            return Chat(question)
        adapter = adapter_path(answerer, run, self._session.adapters.resolve())
        return Chat(question, str(adapter) if adapter else None, self._template)

    def splits(self, run: FollowedRun, data: DataView | None) -> dict[SplitName, int | None]:
        """The splits of a run's data, the best to evaluate on first, with their records if known.

        `data` are the recipe's; if they are others, or not checked yet, the records are counted.
        """
        folder = self._session.data(run.recipe).resolve()
        names: tuple[SplitName, ...] = ("test", "valid", "train")
        found = [each for each in names if exists(split_file(folder, each))]
        checked = data if data is not None and data.folder.resolve() == folder else None
        statistics = {each: checked.split(each).statistics if checked else None for each in found}
        return {
            each: known.records if known else _counted(split_file(folder, each))
            for each, known in statistics.items()
        }

    async def evaluation(
        self, run: FollowedRun, titles: Sequence[tuple[Answerer, str]], plan: EvaluationPlan
    ) -> AsyncIterator[AnyReply]:
        """The replies to an evaluation of the second answerer against the first.

        The model must be open. Raises `EngineError`.
        """
        folder = self._session.data(run.recipe).resolve()
        adapters = self._session.adapters.resolve()
        paths = [adapter_path(each, run, adapters) for each, _ in titles]
        sides = tuple(
            (title, str(path) if path else None)
            for (_, title), path in zip(titles, paths, strict=True)
        )
        command = Evaluate(
            recipe=run.recipe,
            folder=str(folder),
            sides=sides,
            split=plan.split,
            sampling=Sampling(max_tokens=plan.max_tokens),
            limit=plan.limit,
        )
        async for reply in (await self._client(None)).stream(command):
            yield reply

    def _key(self, recipe: Recipe | OpenModel) -> tuple[Path, bool]:
        return self._session.path(recipe.model).resolve(), recipe.trust_remote_code

    async def restore(self, recipe: Recipe) -> None:
        """Open the recipe's model again, which the other screens use. Raises `EngineError`."""
        service, self._service = self._service, None
        if service is None or service.closed or not recipe.model:
            return
        if service.model is None or self._key(service.model) != self._key(recipe):
            await service.send(OpenModel(recipe.model, recipe.trust_remote_code))

    async def stop(self) -> None:
        """End the answer in progress within a token. Raises `EngineError`."""
        if self._asked is not None:
            await self._asked.send(CancelChat())


def kept_template(run: RunDirectory) -> ChatTemplate | None:
    """The chat template that a run keeps; None where it is trained with the model's own."""
    file = run.template_file
    return ChatTemplate(template=str(file.resolve())) if file.is_file() else None


def _counted(file: Path) -> int | None:
    """The records of a file, faulty ones included; None if it can't be read."""
    from mlxft.data.index import records_in

    try:
        return records_in(file)
    except DataError:
        return None
