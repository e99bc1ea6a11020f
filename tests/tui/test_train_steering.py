"""The Train screen's keys that act on a run, and its advice."""

from __future__ import annotations

import time
from dataclasses import replace

import msgspec
import pytest

from mlxft.engine.protocol import (
    Continue,
    Pause,
    SaveCheckpoint,
    SetLearningRate,
    Skip,
    Stop,
    Validate,
)
from mlxft.runs import events as ev
from mlxft.runs.view import fold
from mlxft_tui.frame.messages import ResumeRequested, TrainingRequested
from mlxft_tui.frame.pending import Refused
from support.journal import finished, preparation, training, view_of
from support.session import screen_text
from support.train_screen import (
    app_of,
    done,
    lost,
    paused,
    run_of,
    running,
    sampling,
    waiting,
    warned,
)


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


class TestSteering:
    """Commands are pending until the journal confirms them."""

    @pytest.mark.parametrize(
        ("keys", "command", "requested", "confirmation"),
        [
            (["p"], Pause(), "requested: pause", ev.RunPaused(step=412)),
            (
                ["c"],
                SaveCheckpoint(),
                "requested: checkpoint",
                ev.CheckpointSaved(step=412, path="x"),
            ),
            (
                ["v"],
                Validate(),
                "requested: validation",
                ev.ValidationFinished(step=412, loss=0.5, tokens=1, seconds=1.0, best=True),
            ),
            (
                ["left_square_bracket"],
                SetLearningRate(6.29e-05, 0.00012584),
                "requested: learning rate 6.29e-5",
                ev.LearningRateChanged(step=413, learning_rate=6.29e-05),
            ),
            (
                ["right_square_bracket", "right_square_bracket"],
                SetLearningRate(0.000284, 0.000189),
                "requested: learning rate 2.84e-4",
                ev.LearningRateChanged(step=413, learning_rate=0.000284),
            ),
        ],
    )
    async def test_a_command_is_pending_until_the_journal_confirms_it(
        self, keys: list[str], command: object, requested: str, confirmation: ev.AnyEvent
    ) -> None:
        app = app_of(running())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press(*keys)
            await pilot.pause()
            assert app.asked[-1] == command
            assert requested in screen_text(app)
            app.publish(run=running(412, confirmation)["run"])
            await pilot.pause()
            assert "requested" not in screen_text(app)

    async def test_a_sample_is_shown_as_it_grows_and_can_be_skipped(self) -> None:
        app = app_of(sampling())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            assert "Which of the lamps in the long hall" in screen_text(app)
            assert "n skips it" in screen_text(app)
            await pilot.press("n")
            await pilot.pause()
            assert app.asked[-1] == Skip()
            assert "requested: skip" in screen_text(app)
            skipped = ev.WorkSkipped(step=0, stage="sampling")
            app.publish(run=run_of(fold(sampling()["run"].view, [skipped]), "starting"))
            await pilot.pause()
            assert "requested" not in screen_text(app)

    async def test_during_training_a_samples_end_is_in_one_line(self) -> None:
        text = ev.ProgressMade(stage="sampling", done=300, note="first " * 40 + "and its end")
        app = app_of(running(412, text))
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            (line,) = (each for each in screen_text(app).splitlines() if "and its end" in each)
            assert line.strip().startswith("sampling")
            await pilot.press("n")
            await pilot.pause()
            assert app.asked[-1] == Skip()

    async def test_without_a_sample_there_is_nothing_to_skip(self) -> None:
        app = app_of(running())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("n")
            await pilot.pause()
            assert app.asked == []

    async def test_a_refused_command_is_not_pending(self) -> None:
        app = app_of(running())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("v", "c")
            app.publish(refused=Refused(Validate()))
            await pilot.pause()
            assert "requested: checkpoint …" in screen_text(app)
            assert "to validate" not in screen_text(app)

    async def test_the_same_weights_are_not_validated_twice(self) -> None:
        validated = ev.ValidationFinished(step=412, loss=0.5, tokens=1, seconds=1.0, best=True)
        app = app_of(running(412, validated))
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("v")
            app.publish(run=running(412, validated)["run"])
            await pilot.pause()
            assert "requested" not in screen_text(app)

    async def test_a_rate_key_starts_from_the_confirmed_rate(self) -> None:
        """Even before a step was trained with it."""
        confirmed = ev.LearningRateChanged(step=412, learning_rate=4e-4)
        app = app_of(running(412, confirmed))
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("left_square_bracket")
            await pilot.pause()
            assert app.asked[-1] == SetLearningRate(2e-4, 4e-4)

    async def test_a_narrow_line_shows_progress_without_a_bar(self) -> None:
        validating = ev.ProgressMade(stage="validating", done=3, total=8)
        app = app_of(running(412))
        for width, bar in ((120, True), (80, False)):
            async with app.run_test(size=(width, 24)) as pilot:
                await pilot.press("c", "v", "right_square_bracket")
                app.publish(run=running(412, validating)["run"])
                await pilot.pause()
                (line,) = (row for row in screen_text(app).splitlines() if "requested:" in row)
                assert line.rstrip().endswith("validating 38%")
                assert ("━" in line) == bar
            app = app_of(running(412))

    async def test_stop_asks_first(self) -> None:
        app = app_of(running())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("s")
            await pilot.pause()
            assert "Stop at step 412 of 1000, save, and end the run?" in screen_text(app)
            await pilot.press("n")
            await pilot.pause()
            assert app.asked == []
            await pilot.press("s", "y")
            await pilot.pause()
            assert app.asked == [Stop()]

    async def test_a_stop_that_skipped_the_final_validation_says_so(self) -> None:
        ended = msgspec.structs.replace(finished(), reason="stopped")
        view = view_of([*preparation(), *training(1000), ended])
        app = app_of({"run": run_of(view, "stopped")})
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            assert "stopped at step 1000" in screen_text(app)
            assert "without the final validation" in screen_text(app)
            assert "r resume" in screen_text(app)

    async def test_the_question_follows_the_run_and_closes_with_it(self) -> None:
        validating = ev.ProgressMade(stage="validating", done=1, total=4)
        app = app_of(running())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("s")
            await pilot.pause()
            app.publish(**running(413, validating))
            await pilot.pause()
            question = "Skip the validation, save, and end at step 413 of 1000?"
            assert question in screen_text(app)
            app.publish(**done())
            await pilot.pause()
            assert "Skip the validation" not in screen_text(app)
            assert app.asked == []

    async def test_the_pause_key_continues_a_paused_run(self) -> None:
        app = app_of(paused())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("p")
            await pilot.pause()
            assert app.asked == [Continue()]

    async def test_without_a_run_only_training_can_start(self) -> None:
        app = app_of(waiting())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("p", "s", "c", "v", "left_square_bracket", "r", "space", "left", "y")
            await pilot.pause()
            assert app.asked == []
            await pilot.press("t")
            await pilot.pause()
            assert isinstance(app.asked[0], TrainingRequested)

    async def test_a_lost_run_can_be_resumed(self) -> None:
        app = app_of(lost())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("r")
            await pilot.pause()
            (asked,) = app.asked
            assert isinstance(asked, ResumeRequested)
            assert asked.directory.name == "SmolLM2-135M-Instruct-lora-1"


class TestAdvice:
    """Advice from the run's figures, and the key that follows it."""

    async def test_a_spike_is_shown_with_evidence_and_key(self) -> None:
        app = app_of(warned())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            assert "→ The loss has spiked: halve the learning rate to 1e-4." in screen_text(app)
            await pilot.press("a")
            await pilot.pause()
            assert app.asked == [SetLearningRate(1e-4, 2e-4)]

    async def test_overfitting_can_be_stopped_with_the_advice_key(self) -> None:
        worse = (
            ev.ValidationFinished(step=step, loss=0.9, tokens=1, seconds=1.0, best=False)
            for step in (413, 414)
        )
        app = app_of(running(412, *worse))
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            assert "stop and use the checkpoint of step 400" in screen_text(app)
            await pilot.press("a")
            await pilot.pause()
            assert "save, and end the run?" in screen_text(app)
            await pilot.press("y")
            await pilot.pause()
            assert app.asked == [Stop()]

    async def test_advice_stays_a_while_after_its_reason(self) -> None:
        app = app_of(warned())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            app.publish(run=running(420)["run"])
            await pilot.pause()
            assert "→ The loss has spiked" in screen_text(app)

    async def test_a_pending_change_is_not_advised_again(self) -> None:
        app = app_of(warned())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("a")
            app.publish(run=warned()["run"])
            await pilot.pause()
            assert "→" not in screen_text(app)

    async def test_a_run_that_was_not_finite_is_resumed_at_half_the_rate(self) -> None:
        ended = ev.RunFailed(
            message="Step 331: the loss is nan.", step=330, log="engine.log", cause="not_finite"
        )
        view = view_of([*preparation(), *training(330), ended])
        app = app_of({"run": run_of(view, "failed")})
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            assert "Halve the learning rate to 1e-4 and resume." in screen_text(app)
            await pilot.press("a")
            await pilot.pause()
            (asked,) = app.asked
            assert isinstance(asked, ResumeRequested)
            assert asked.changes == {"learning_rate": 1e-4}

    async def test_a_run_that_macos_ended_is_resumed_with_shorter_gpu_work(self) -> None:
        lost = run_of(view_of([*preparation(), *training(330)]), "lost")
        app = app_of({"run": replace(lost, died_of="gpu_watchdog")})
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            assert "macOS ended the GPU work" in screen_text(app)
            await pilot.press("a")
            await pilot.pause()
            (asked,) = app.asked
            assert isinstance(asked, ResumeRequested)
            assert asked.changes == {"gpu_work": "short"}

    async def test_a_healthy_run_has_no_advice(self) -> None:
        app = app_of(running(200))
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("a")
            await pilot.pause()
            assert app.asked == []
            assert "→" not in screen_text(app)
