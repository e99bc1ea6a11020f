"""Evaluates two models on the test set, and reports progress and scores in the conversation."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from textual.content import Content
from textual.widgets import Static

from mlxft.chat.answerers import BASE, Answerer
from mlxft.comparison.evaluations import keep_evaluation
from mlxft.conversation.scores import Evaluation
from mlxft.engine.protocol import AnyReply, Evaluated, Progressed
from mlxft.errors import MlxftError
from mlxft.runs.directory import RunDirectory
from mlxft.runs.followed import FollowedRun
from mlxft.text.printable import printable
from mlxft_tui.chat.activity import Activity
from mlxft_tui.chat.answering import opening, warn_of_other_weights
from mlxft_tui.chat.backend import ChatBackend
from mlxft_tui.chat.evaluation_dialog import EvaluationPlan
from mlxft_tui.chat.model_choice import ModelChoice
from mlxft_tui.frame.screen import AppScreen
from mlxft_tui.text.evaluation import evaluation_lines
from mlxft_tui.text.markdown_blocks import sanitized
from mlxft_tui.text.progress import Progress
from mlxft_tui.widgets.remappable import with_keys

EVALUATING = "Evaluating… {chat.back} cancels"

RETRIES = "{chat.evaluate} retries."
CANCELLED = "Evaluation cancelled. {chat.evaluate} starts it again."

STAGES = {"evaluating": "1 of 2, losses: ", "answering": "2 of 2, answers: "}
"""The stages of an evaluation by their names in the protocol."""


class EvaluationReport(Static):
    """The progress of an evaluation, then its scores."""

    def __init__(self) -> None:
        super().__init__("", markup=False, classes="evaluation")
        self._progress = Progress()

    def show(self, reply: AnyReply) -> None:
        """Show the latest reply."""
        match reply:
            case Progressed(progress=progress):
                described = self._progress.describe(progress, time.monotonic())
                stage = STAGES.get(progress.stage, "")
                cancels = with_keys(self, "{chat.back} cancels")
                self.update(Content(f"{stage}{described}; {cancels}"))
            case Evaluated(evaluation=found):
                self.update(Content(sanitized("\n".join(evaluation_lines(found)))))

    def fail(self, problem: str) -> None:
        """Show why there are no scores."""
        self.update(Content(printable(problem)))


@dataclass(kw_only=True)
class EvaluationRun:
    """One evaluation of the followed run."""

    screen: AppScreen
    backend: ChatBackend
    choice: ModelChoice
    activity: Activity
    report: EvaluationReport
    plan: EvaluationPlan

    async def execute(self, run: FollowedRun) -> None:
        """Evaluate; errors are shown in the report."""
        with self.activity.running(with_keys(self.screen, EVALUATING)):
            titles = [(each, self.choice.title(each)) for each in self.choice.compared]
            try:
                async for reply in opening(self.screen, self.backend):
                    self.report.show(reply)
                self.activity.received()
                answerers = [answerer for answerer, _ in titles]
                await warn_of_other_weights(self.screen, self.backend, answerers)
                async for reply in self.backend.evaluation(run, titles, self.plan):
                    self.report.show(reply)
                    if isinstance(reply, Evaluated):
                        await asyncio.to_thread(self._keep, run, answerers[-1], reply.evaluation)
            except MlxftError as error:
                self.report.fail(f"{error} {with_keys(self.screen, RETRIES)}")
            except asyncio.CancelledError:
                if self.activity.was_cancelled:
                    self.report.fail(with_keys(self.screen, CANCELLED))
                raise

    def _keep(self, run: FollowedRun, answerer: Answerer, found: Evaluation) -> None:
        """Keep what was said of a run's latest adapter. Raises `StorageError`."""
        if answerer == BASE or answerer.step is not None or found.unanswered:
            return
        session = self.screen.session
        named = answerer.named(run.directory.name).run
        directory = RunDirectory(session.adapters / (named or ""))
        data = str(session.data(run.recipe).resolve())
        keep_evaluation(directory, found, data=data, now=time.time())
