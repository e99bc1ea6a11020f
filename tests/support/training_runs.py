"""Runs trained in the test's own process, session by session."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mlxft.compute.generation.answers import Listener
from mlxft.compute.training.session import TrainingSession
from mlxft.conversation.messages import Question
from mlxft.recipe import Recipe
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory

E = TypeVar("E")
Visitor = Callable[[TrainingSession], None]


@dataclass
class Run:
    """A run directory that is trained in sessions, and the events of the last one."""

    directory: RunDirectory
    recipe: Recipe
    events: list[Any] = field(default_factory=list)

    def session(
        self,
        at_safe_point: Visitor | None = None,
        is_called: Callable[[], bool] = lambda: False,
    ) -> Any:
        """A session that calls back at each safe point."""
        self.events = []

        def visit() -> None:
            if at_safe_point:
                at_safe_point(session)

        session = TrainingSession(
            self.recipe,
            self.directory,
            self.events.append,
            at_safe_point=visit,
            is_called=is_called,
        )
        return session

    def train(
        self,
        at_safe_point: Visitor | None = None,
        is_called: Callable[[], bool] = lambda: False,
    ) -> ev.RunFinished:
        """Prepare and run one session to its end."""
        session = self.session(at_safe_point, is_called)
        session.prepare()
        finished = session.run()
        assert isinstance(finished, ev.RunFinished)
        return finished

    def of(self, kind: type[E]) -> list[E]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def losses(self) -> list[float]:
        return [event.loss for event in self.of(ev.StepFinished)]

    def adapter(self) -> bytes:
        return self.directory.adapter_file.read_bytes()


def ask_session(session: TrainingSession, question: Question) -> str:
    """The text that the model in memory answers."""
    listener = Listener(lambda _: None, lambda: False)
    return session.answer_together([(question, None, listener)])[0].text


MakeRun = Callable[..., Run]
"""Makes a run with ``key=value`` settings over the usual recipe."""


def stop_after(step: int) -> Visitor:
    """A safe-point visitor that stops the run once the step is done."""

    def visit(session: TrainingSession) -> None:
        if session.step >= step:
            session.request_stop()

    return visit


def write_records(folder: Path, *records: dict[str, Any]) -> Path:
    """A data folder with these training records."""
    folder.mkdir(exist_ok=True)
    (folder / "train.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
    return folder
