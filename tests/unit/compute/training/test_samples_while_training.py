"""The recipe's sample prompt, answered during training."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlxft.compute.generation import answers
from mlxft.compute.training.session import TrainingSession
from mlxft.memory.calibration import remembered_peaks
from mlxft.runs import events as ev
from support.training import MakeRun, Run, stop_after

PROMPT = ("sample_prompt=Turn on lamp 3", "sample_every=2")


@pytest.fixture(autouse=True)
def short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here depends on how long they are."""
    monkeypatch.setattr("mlxft.compute.training.answering.SAMPLE_TOKENS", 12)


def begun(run: Run) -> int:
    """How often the run has reported that it generates a sample."""
    return sum(each.stage == "sampling" and not each.done for each in run.of(ev.ProgressMade))


class TestSamples:
    def test_it_is_answered_at_the_start_every_n_steps_and_at_the_end(
        self, make_run: MakeRun
    ) -> None:
        run = make_run(*PROMPT, "iters=5")
        run.train()
        samples = run.of(ev.SampleAnswered)
        assert [each.step for each in samples] == [0, 2, 4, 5]
        assert {each.prompt for each in samples} == {"Turn on lamp 3"}
        assert all(each.tokens > 0 for each in samples)

    def test_it_doesnt_change_the_run(self, make_run: MakeRun) -> None:
        plain = make_run("lora_parameters.dropout=0.1")
        asked = make_run("lora_parameters.dropout=0.1", *PROMPT)
        plain.train()
        asked.train()
        assert asked.losses == plain.losses
        assert asked.adapter() == plain.adapter()

    def test_a_resume_does_not_answer_for_step_0_again(self, make_run: MakeRun) -> None:
        run = make_run(*PROMPT, "save_every=3")
        run.train(stop_after(3))
        assert [each.step for each in run.of(ev.SampleAnswered)] == [0, 2]
        run.train()
        assert [each.step for each in run.of(ev.SampleAnswered)] == [4, 6]

    def test_a_stop_cancels_it_and_a_resume_answers_it(self, make_run: MakeRun) -> None:
        run = make_run(*PROMPT)

        def stop(session: TrainingSession) -> None:
            if begun(run) == 2:
                session.request_stop()

        assert run.train(stop, lambda: begun(run) == 2).step == 2
        assert [each.step for each in run.of(ev.SampleAnswered)] == [0]
        run.train()
        assert [each.step for each in run.of(ev.SampleAnswered)] == [2, 4, 6]

    def test_one_cancelled_by_a_pause_starts_over(self, make_run: MakeRun) -> None:
        whole, run, visits = make_run(*PROMPT), make_run(*PROMPT), list[int]()

        def pause(session: TrainingSession) -> None:
            if begun(run):
                visits.append(session.step)

        whole.train()
        run.train(pause, lambda: begun(run) == 1 and not visits)
        assert visits[0] == 0
        assert begun(run) == begun(whole) + 1
        texts = [each.text for each in run.of(ev.SampleAnswered)]
        assert texts == [each.text for each in whole.of(ev.SampleAnswered)]

    def test_the_last_one_is_answered_after_a_stop_in_the_last_validation(
        self, make_run: MakeRun
    ) -> None:
        run = make_run(*PROMPT, "iters=2", "val_batches=-1")

        def visit(session: TrainingSession) -> None:
            if session.is_validating:
                session.request_stop()

        run.train(visit)
        assert [each.step for each in run.of(ev.SampleAnswered)] == [0]
        assert run.train().reason == "completed"
        assert [each.step for each in run.of(ev.SampleAnswered)] == [2]
        run.train()
        assert run.of(ev.SampleAnswered) == []

    def test_its_text_is_reported_as_it_grows(
        self, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mlxft.compute.training.answering.SHOW_SECONDS", 0.0)
        run = make_run(*PROMPT, "iters=1")
        run.train(stop_after(0))
        run.train(stop_after(1))
        (answered, _) = run.of(ev.SampleAnswered)
        notes = [each.note for each in run.of(ev.ProgressMade) if each.stage == "sampling"]
        first = notes[1 : notes.index("", 1)]
        assert len(first) > 3
        assert all(later.startswith(text) for text, later in pairwise([*first, answered.text]))

    def test_it_can_be_skipped(self, make_run: MakeRun) -> None:
        """A request while nothing can be skipped skips nothing later."""
        whole, run, asked = make_run(*PROMPT, "iters=3"), make_run(*PROMPT, "iters=3"), list[int]()

        def skip(session: TrainingSession) -> None:
            if begun(run) == 1 or session.step == 1:
                asked.append(session.step)
                session.request_skip()

        run.train(skip, lambda: begun(run) == 1 and not asked)
        assert [each.step for each in run.of(ev.WorkSkipped)] == [0]
        assert [each.step for each in run.of(ev.SampleAnswered)] == [2, 3]
        assert 1 in asked
        whole.train()
        assert run.adapter() == whole.adapter()

    def test_the_validation_before_the_first_step_can_be_skipped(self, make_run: MakeRun) -> None:
        run = make_run("val_batches=-1", "val_at_start=true", "iters=2")
        run.train(lambda session: session.request_skip())
        assert [each.stage for each in run.of(ev.WorkSkipped)] == ["validating"]
        assert [each.step for each in run.of(ev.ValidationFinished)] == [2]

    def test_it_is_reported_before_it_is_generated(self, make_run: MakeRun) -> None:
        run = make_run(*PROMPT, "iters=2")
        run.train()
        stages = [
            each.stage if isinstance(each, ev.ProgressMade) else "answered"
            for each in run.events
            if isinstance(each, ev.SampleAnswered)
            or (isinstance(each, ev.ProgressMade) and each.stage == "sampling" and not each.done)
        ]
        assert stages == ["sampling", "answered"] * 2

    def test_the_remembered_peak_excludes_it(
        self, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("MLXFT_PEAKS", str(tmp_path / "peaks.jsonl"))
        generate = answers.generate

        def generate_in_much_memory(*given: Any) -> Any:
            mx.eval(mx.zeros((64, 1024, 1024)))
            return generate(*given)

        monkeypatch.setattr(answers, "generate", generate_in_much_memory)
        mx.reset_peak_memory()
        run = make_run(*PROMPT, "iters=2")
        finished = run.train()
        (peak,) = remembered_peaks()
        assert peak.measured < 200_000_000 < finished.peak_memory

    def test_without_a_prompt_nothing_is_answered(self, make_run: MakeRun) -> None:
        run = make_run("sample_every=2")
        run.train()
        assert run.of(ev.SampleAnswered) == []
