"""The training engine: one run, from locking its folder to its last event."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from mlxft import recipe as recipes
from mlxft.conversation.messages import Answer
from mlxft.engine.answering import answer_chat
from mlxft.engine.failure import sentence
from mlxft.engine.kernels import ProcessKernelMaker
from mlxft.engine.machine import MachineLock, gpu_environment, keep_awake, only_training
from mlxft.engine.mailbox import Call, Mailbox
from mlxft.engine.protocol import (
    AnswerAll,
    Chat,
    Continue,
    Evaluate,
    Export,
    MeasureSpeed,
    MeasureTokens,
    OpenModel,
    Pause,
    Ping,
    Preview,
    SaveCheckpoint,
    SetLearningRate,
    SideBySide,
    Skip,
    Stop,
    Validate,
)
from mlxft.engine.reachable import keep_reachable, serving_run
from mlxft.engine.worker import in_mlx_thread
from mlxft.errors import MlxftError, RecipeError, RunError
from mlxft.hosts import Hosts, hosts_of
from mlxft.recipe import Recipe
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory
from mlxft.runs.events import AnyEvent
from mlxft.runs.journal import JournalWriter
from mlxft.runs.kept_view import compared_view
from mlxft.runs.lock import Held
from mlxft.telemetry.host import resident_memory
from mlxft.telemetry.sampler import Sampler
from mlxft.watching.companions import Companions
from mlxft.watching.installed import refuse_missing

if TYPE_CHECKING:
    from mlxft.compute.generation.answers import Listener
    from mlxft.compute.training.session import TrainingSession
    from mlxft.engine.ranks import Crew

SAMPLE_SECONDS: Final = 2.0
"""Time between two samples of the machine, and between two checks of the run's folder."""

LOST_PATIENCE: Final = 5.0
"""How long the MLX thread may wait for ranks that are gone before the run ends without it."""

STOP_PATIENCE: Final = 2.0
"""How long a stop waits for a download or a load, which have no safe point."""


MOST_WAITING: Final = 1000
"""Commands that may wait for a safe point; a step takes seconds, and a flood much memory."""

_OF_MODEL_SERVICE: Final = (
    OpenModel,
    Preview,
    MeasureTokens,
    MeasureSpeed,
    Evaluate,
    AnswerAll,
    Export,
)


def train(
    directory: RunDirectory,
    ready: Callable[[], None],
    memory_limit: int | None = None,
    until: int | None = None,
) -> bool:
    """Train the run to its end; returns whether it finished without an error.

    `ready` is called once the run can be controlled; `memory_limit` is what MLX should stay below,
    in bytes, `until` a step after which the run is stopped and saved. Raises `RunError` if another
    engine has the run, or trains on this machine.
    """
    recipe = directory.recipe()
    # MLX and Metal read them when they start.
    os.environ.update(gpu_environment(recipe.gpu_work))
    hosts = hosts_of(recipe.hosts)
    variables: list[dict[str, str]] = []
    if hosts.count > 1:
        from mlxft.engine import rank_network

        variables = [rank_network.environment(hosts, rank) for rank in range(hosts.count)]
        os.environ.update(variables[0])

    async def run(machine: MachineLock) -> bool:
        training = _Training(directory, recipe, held, journal, memory_limit, until)
        training.with_ranks(hosts, variables)
        return await training.run(ready, machine)

    with (
        directory.locked() as held,
        contextlib.closing(JournalWriter(directory.journal_file)) as journal,
    ):
        try:
            with only_training(directory) as machine:
                finished = asyncio.run(run(machine))
        except MlxftError as error:
            log = str(directory.log_file)
            cause = error.cause if isinstance(error, RunError) else None
            journal.append(ev.RunFailed(message=str(error), step=0, log=log, cause=cause))
            raise
    # The first comparison with other runs needn't read the whole journal then.
    compared_view(directory)
    return finished


class _Training:
    """One engine process's session of a run.

    The main thread serves socket, signals and telemetry; the MLX thread trains, and follows the
    calls in the mailbox at each safe point.
    """

    def __init__(
        self,
        directory: RunDirectory,
        recipe: Recipe,
        held: Held,
        journal: JournalWriter,
        memory_limit: int | None,
        until: int | None,
    ) -> None:
        self._directory = directory
        self._recipe = recipe
        self._held = held
        self._journal = journal
        self._memory_limit = memory_limit
        self._until = until
        self._ends_round = False
        """Whether it was stopped because of `until`."""
        self._crew: Crew | None = None
        self._kernels = ProcessKernelMaker()
        self._loop = asyncio.get_running_loop()
        self._mailbox = Mailbox()
        self._session: TrainingSession | None = None
        self._companions = Companions(
            directory, lambda message: journal.append(ev.Warned(message=message))
        )
        self._has_begun = asyncio.Event()
        self._is_training = False
        self._stopping = asyncio.Event()
        self._paused_at: float | None = None
        self._validates_while_paused = False
        self._answering: Call | None = None
        self._gpu_uuid: str | None = None

    def with_ranks(self, hosts: Hosts, variables: Sequence[Mapping[str, str]]) -> None:
        """Train with the processes of these hosts, each with its own environment variables."""
        if hosts.count > 1:
            from mlxft.engine.ranks import Crew

            self._crew = Crew(hosts, variables, self._lose)

    async def run(self, ready: Callable[[], None], machine: MachineLock) -> bool:
        """Serve and train until the run's last event is written.

        Raises `RunError` if the run is deleted meanwhile.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop)
        async with serving_run(self._directory, self._handle) as server:
            ready()
            self._companions.start(self._recipe, self._journal.earlier.seq)
            beside = [
                asyncio.create_task(each)
                for each in (
                    self._sample_machine(),
                    keep_reachable(self._directory, server),
                    machine.keep(),
                )
            ]
            try:
                ending = await self._ending()
            finally:
                await asyncio.to_thread(self._kernels.close)
                if self._crew is not None:
                    await asyncio.to_thread(self._crew.close)
            for task in beside:
                task.cancel()
            await asyncio.wait(beside)
            self._companions.close()
            self._journal.append(ending)
            self._refuse_waiting()
        return isinstance(ending, ev.RunFinished)

    # The main thread

    def _handle(self, call: Call) -> None:
        match call.command:
            case Ping():
                call.done()
            case Stop():
                self._stop()
                call.done()
            case _ if isinstance(call.command, _OF_MODEL_SERVICE):
                call.refuse("This engine trains a run; it opens no other model.")
            case _ if len(self._mailbox) >= MOST_WAITING:
                call.refuse("Too many commands wait for the run; repeat this one later.")
            case Chat() | SideBySide() if not self._is_training:
                call.refuse("The run isn't training yet; ask again once it is.")
            case Chat() | SideBySide():
                self._mailbox.post(call)
            case Validate() if self._recipe.val_batches == 0:
                call.refuse("This run doesn't validate: its val_batches is 0.")
            case SetLearningRate(value=value) if refusal := _rate_refusal(value):
                call.refuse(refusal)
            case _:
                self._mailbox.post(call)
                call.done()

    def _stop(self) -> None:
        self._stopping.set()
        self._mailbox.post_first(Call(0, Stop(), lambda _: None))
        if self._answering is not None:
            self._answering.cancelled.set()

    def _lose(self) -> None:
        """A rank is lost, as a thread of the crew says: the run ends, also where it is paused."""
        self._loop.call_soon_threadsafe(self._stop)

    async def _ending(self) -> ev.RunFinished | ev.RunFailed:
        """The run's last event: the MLX thread's result, or why it has none.

        Raises `RunError` if the run is deleted meanwhile.
        """
        worker = asyncio.create_task(in_mlx_thread(self._train))
        stopped = asyncio.create_task(self._stopping.wait())
        deleted = asyncio.create_task(self._deleted())
        await asyncio.wait([worker, stopped, deleted], return_when=asyncio.FIRST_COMPLETED)
        # The process exits without waiting for whatever the thread is still doing.
        patience = None if self._is_training else STOP_PATIENCE
        if self._crew is not None and self._is_training:
            await self._end_of_sums(self._crew, worker, deleted)
        else:
            await asyncio.wait(
                [worker, deleted], timeout=patience, return_when=asyncio.FIRST_COMPLETED
            )
        stopped.cancel()
        if deleted.done():
            raise RunError(
                f"{self._directory.path}: the run's folder, lock or journal was deleted during "
                "training; the engine has ended without saving."
            )
        deleted.cancel()
        try:
            if self._crew is not None and self._crew.loss is not None:
                await self._refuse_loss(self._crew, worker)
            if not worker.done() and not self._is_training:
                return self._stopped_while_loading()
            return await worker
        except Exception as error:
            return self._failed(error)

    def _failed(self, error: Exception) -> ev.RunFailed:
        log = self._directory.log_file
        return ev.RunFailed(
            message=sentence(error, "The run has failed", log),
            step=self._session.step if self._session else 0,
            log=str(log),
            learning_rate=self._session.learning_rate if self._session else None,
            cause=error.cause if isinstance(error, RunError) else None,
            traceback=not isinstance(error, MlxftError),
        )

    async def _end_of_sums(
        self, crew: Crew, worker: asyncio.Task[ev.RunFinished], deleted: asyncio.Task[None]
    ) -> None:
        """Wait for the MLX thread, but not while it waits for ranks that are gone."""
        waited = 0.0
        while not worker.done() and not deleted.done() and waited < LOST_PATIENCE:
            await asyncio.wait([worker, deleted], timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
            stuck = crew.loss is not None and crew.is_stuck()
            waited = waited + 1.0 if stuck else 0.0

    async def _refuse_loss(self, crew: Crew, worker: asyncio.Task[ev.RunFinished]) -> None:
        """Raise `RunError` for the lost rank, if the MLX thread doesn't."""
        step = self._session.step if self._session else 0
        if worker.done():
            await worker
        raise RunError(f"Step {step + 1}: {crew.loss}; resume the run from its last checkpoint.")

    async def _deleted(self) -> None:
        """Wait until the run's folder is gone: no viewer could find or stop it then."""
        while self._held.is_in_place() and self._journal.is_in_place():
            await asyncio.sleep(SAMPLE_SECONDS)

    def _stopped_while_loading(self) -> ev.RunFinished:
        if self._session is not None:
            return self._session.summary()
        return ev.RunFinished(
            reason="stopped",
            step=0,
            first_loss=None,
            final_loss=None,
            best_validation_loss=None,
            best_validation_step=None,
            tokens_per_second=0.0,
            trained_tokens=0,
            peak_memory=0,
            seconds=0.0,
            adapter_path=str(self._directory.path),
        )

    async def _sample_machine(self) -> None:
        await self._has_begun.wait()
        sampler = await asyncio.to_thread(Sampler, self._gpu_uuid)
        while True:
            sample = await asyncio.to_thread(sampler.sample)
            event = ev.MachineSampled(sample=sample, resident_memory=resident_memory())
            self._journal.append(self._with_mlx_memory(event))
            await asyncio.sleep(SAMPLE_SECONDS)

    def _with_mlx_memory(self, event: ev.MachineSampled) -> ev.MachineSampled:
        if self._session is None:
            return event
        from mlxft.compute import backend

        used = backend.memory()
        return ev.MachineSampled(
            sample=event.sample,
            resident_memory=event.resident_memory,
            active_memory=used.active,
            peak_memory=used.peak,
            cache_memory=used.cache,
        )

    def _refuse_waiting(self) -> None:
        while (call := self._mailbox.take()) is not None:
            call.refuse("The run has ended.")

    # The MLX thread

    def _train(self) -> ev.RunFinished:
        from mlxft.compute import backend
        from mlxft.compute.training.session import TrainingSession

        refuse_missing(self._recipe)
        if self._crew is not None:
            self._crew.start()
        session = TrainingSession(
            self._recipe,
            self._directory,
            self._journal.append,
            at_safe_point=self._at_safe_point,
            is_called=self._is_called,
            earlier=self._journal.earlier,
            ranks=self._crew,
            # Nothing else may take memory where it was short.
            kernels=self._kernels if self._memory_limit is None else None,
        )
        self._journal.append(self._started(session.start_step, backend.versions()))
        if self._recipe.prevent_sleep and (tool := keep_awake()):
            self._journal.append(ev.SleepPrevented(by=tool))
        ready = backend.initialise()
        self._journal.append(ready)
        self._gpu_uuid = backend.gpu_uuid()
        self._loop.call_soon_threadsafe(self._has_begun.set)
        if self._memory_limit is not None:
            backend.limit_memory(self._memory_limit)
            short = f"Memory was short, so MLX is limited to {self._memory_limit / 1e9:.2f} GB now."
            self._journal.append(ev.Warned(message=short))
        if advice := backend.slow_blas_advice(ready):
            self._journal.append(ev.Warned(message=advice))
        self._session = session
        session.prepare()
        self._is_training = True
        ending = session.run()
        ends_round = self._ends_round and ending.reason == "stopped"
        return msgspec.structs.replace(ending, ends_round=ends_round)

    def _started(self, start_step: int, versions: dict[str, str]) -> AnyEvent:
        return ev.RunStarted(
            run=self._directory.name,
            pid=os.getpid(),
            host=platform.node(),
            recipe=recipes.to_mapping(self._recipe),
            iters=self._recipe.iters,
            start_step=start_step,
            versions=versions,
        )

    def _at_safe_point(self) -> None:
        """Follow the waiting calls; while the run is paused, wait for more."""
        if self._session is not None and self._has_reached_its_end(self._session):
            self._ends_round = True
            self._session.request_stop()
        while call := self._mailbox.wait() if self._waits else self._mailbox.take():
            self._follow(call)
            if isinstance(call.command, (SaveCheckpoint, Validate)):
                return  # The session does it at once and visits the safe point again.

    def _has_reached_its_end(self, session: TrainingSession) -> bool:
        """Whether the run has trained as far as it should this time, and validated."""
        return self._until is not None and session.step >= self._until and not session.is_validating

    def _is_called(self) -> bool:
        """Whether a waiting command should cancel the sample that is being generated."""
        return self._mailbox.waiting(Stop, Pause, Skip, Chat, SideBySide)

    @property
    def _waits(self) -> bool:
        """A paused run waits at every safe point, except during a validation requested since."""
        validates = self._session is not None and self._session.is_validating
        return self._paused_at is not None and not (self._validates_while_paused and validates)

    def _follow(self, call: Call) -> None:
        session = self._session
        assert session is not None
        match call.command:
            case Stop():
                self._paused_at = None
                session.request_stop()
            case Pause():
                self._pause(session.step)
            case Continue():
                self._continue(session.step)
            case SaveCheckpoint():
                session.request_checkpoint()
            case Validate():
                self._validates_while_paused = self._paused_at is not None
                session.request_validation()
            case Skip():
                session.request_skip()
            case SetLearningRate(value=value, was=was):
                self._set_learning_rate(session, value, was)
            case Chat() | SideBySide():
                self._answer(call, session)

    def _set_learning_rate(self, session: TrainingSession, value: float, was: float) -> None:
        """Set it, unless the rate that follows from what the caller saw can't be one."""
        try:
            session.set_learning_rate(value, was)
        except RecipeError as error:
            unchanged = f"The learning rate is unchanged: {error}"
            self._journal.append(ev.Warned(message=unchanged, step=session.step))

    def _pause(self, step: int) -> None:
        if self._paused_at is None:
            self._paused_at = time.monotonic()
            self._validates_while_paused = False
            self._journal.append(ev.RunPaused(step=step))

    def _continue(self, step: int) -> None:
        if self._paused_at is not None:
            seconds = time.monotonic() - self._paused_at
            self._paused_at = None
            self._journal.append(ev.RunContinued(step=step, paused_seconds=seconds))

    def _answer(self, call: Call, session: TrainingSession) -> None:
        """Answer between two steps; the journal says that the run waits, and how long."""

        def generate(asked: Sequence[tuple[Chat, Listener]]) -> Sequence[Answer]:
            return session.answer_together(
                [
                    (chat.question, Path(chat.adapter) if chat.adapter else None, back)
                    for chat, back in asked
                ]
            )

        started = time.monotonic()
        self._answering = call
        self._journal.append(ev.ProgressMade(stage="answering", done=0))
        answers = answer_chat(call, generate, self._directory.log_file, step=session.step)
        self._answering = None
        tokens = sum(answer.generated_tokens for answer in answers)
        seconds = time.monotonic() - started
        self._journal.append(ev.ChatAnswered(step=session.step, tokens=tokens, seconds=seconds))


def _rate_refusal(value: float) -> str | None:
    try:
        recipes.check(recipes.PARAMETERS["learning_rate"], value)
    except RecipeError as error:
        return str(error)
    return None
