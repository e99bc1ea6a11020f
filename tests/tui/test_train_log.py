"""The Train screen's log and samples, and how often they are redrawn."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from mlxft import recipe as recipes
from mlxft.runs import events as ev
from mlxft_tui.train.notice import Notice
from mlxft_tui.train.screen import TrainScreen
from support.journal import RUN_RECIPE, ended, followed, preparation, training, view_of
from support.session import screen_text
from support.train_screen import FOLDER, app_of, run_of, running, tick


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


class TestLog:
    """One line per event, filtered by a key."""

    async def test_each_press_applies_the_next_filter(self) -> None:
        app = app_of(running(412, ev.Warned(message="The disk is nearly full.")))
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("f")
            await pilot.pause()
            log = screen_text(app).split("─ log")[1]
            assert "only results" in log
            assert "validation 0.576" in log
            assert "tok/s" not in log
            await pilot.press("f", "f")
            await pilot.pause()
            log = screen_text(app).split("─ log")[1]
            assert "only warnings" in log
            assert "The disk is nearly full." in log
            assert "validation" not in log.split("p Pause")[0]
            await pilot.press("f")
            await pilot.pause()
            assert "only" not in screen_text(app)

    async def test_a_filter_without_events_says_so(self) -> None:
        app = app_of(running(5))
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("f", "f", "f")
            await pilot.pause()
            assert "only warnings, none yet" in screen_text(app)

    async def test_scrolled_lines_stay_while_the_log_grows(self) -> None:
        events = [*preparation(gpu=True), *training(420, gpu=True)]
        app = app_of({"run": run_of(view_of(events[:-30]), "running")})
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("pageup")
            await pilot.pause()
            before = screen_text(app).split("─ log")[1].splitlines()[1:8]
            app.publish(run=run_of(view_of(events), "running"))
            await pilot.pause()
            assert screen_text(app).split("─ log")[1].splitlines()[1:8] == before

    async def test_over_ssh_reports_are_collected(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SSH_TTY", "/dev/pts/1")
        app = app_of(running(410))
        screen = app.place
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            app.publish(run=running(420)["run"])
            await pilot.pause()
            assert "step 420  loss" not in screen_text(app)
            later = screen.clock() + 6
            screen.clock = lambda: later  # type: ignore[method-assign]
            app.publish(run=running(420)["run"])
            await pilot.pause()
            assert "step 420  loss" in screen_text(app)


class TestPace:
    """Figures follow each step, curves each second; over SSH fewer redraws."""

    async def test_figures_follow_each_step_and_curves_each_second(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mlxft_tui.train.screen.TICK_SECONDS", 3600.0)
        app = app_of(running(410))
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            app.publish(run=running(411)["run"])
            await pilot.pause()
            app.publish(run=running(412)["run"])
            await pilot.pause()
            assert "412/1000" in screen_text(app)
            assert "step 410" in screen_text(app).split("─ loss")[1].splitlines()[0]
            tick(app)
            await pilot.pause()
            assert "step 412" in screen_text(app).split("─ loss")[1].splitlines()[0]

    async def test_the_last_steps_are_drawn_when_a_run_pauses_or_ends(self) -> None:
        app = app_of(running(410))
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            paused = running(412, ev.RunPaused(step=412))["run"].view
            app.publish(run=run_of(paused, "paused"))
            await pilot.pause()
            assert "step 412" in screen_text(app).split("─ loss")[1].splitlines()[0]

    @pytest.mark.parametrize(("after", "paints"), [(0.5, 0), (1.5, 1)])
    async def test_over_ssh_the_clock_repaints_only_without_events(
        self, after: float, paints: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSH_TTY", "/dev/pts/1")
        app = app_of(running(410))
        screen = app.place
        assert isinstance(screen, TrainScreen)
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            notices: list[object] = []
            monkeypatch.setattr(screen.query_one(Notice), "show", notices.append)
            later = screen.clock() + after
            screen.clock = lambda: later
            screen.tick()
            assert len(notices) == paints


class TestSamples:
    """The model's answers to the sample prompt."""

    def answered(self) -> dict[str, Any]:
        texts = ["I am a lamp, how can I help you?", '{"lamp": 3, "on": true}\nIt is on.']
        answers = (
            ev.SampleAnswered(step=step, prompt="Turn on lamp 3", text=text, tokens=9, seconds=0.5)
            for step, text in zip((0, 400), texts, strict=True)
        )
        state = running(412, *answers)
        recipe = recipes.replace(RUN_RECIPE, "sample_prompt", "Turn on lamp 3")
        return {"run": followed(FOLDER, state["run"].view, "running", recipe), "recipe": recipe}

    async def test_answers_are_listed_with_their_steps(self) -> None:
        app = app_of(self.answered())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("w")
            await pilot.pause()
            rows = [line.rstrip() for line in screen_text(app).splitlines()]
            assert any("─ samples" in row and "Turn on lamp 3" in row for row in rows)
            assert " step 0     I am a lamp, how can I help you?" in rows
            assert ' step 400   {"lamp": 3, "on": true}' in rows
            assert "            It is on." in rows
            await pilot.press("w")
            await pilot.pause()
            assert "─ log" in screen_text(app)

    @pytest.mark.parametrize("key", ["escape", "f"])
    async def test_escape_and_filter_return_to_the_log(self, key: str) -> None:
        app = app_of(self.answered())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("w", key)
            await pilot.pause()
            assert "─ log" in screen_text(app)
            assert "only" not in screen_text(app)

    async def test_samples_of_a_deleted_run_are_not_shown(self) -> None:
        app = app_of(self.answered())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("w")
            app.publish(run=None)
            await pilot.pause()
            assert "I am a lamp" not in screen_text(app)

    async def test_a_wide_terminal_shows_samples_beside_the_log(self) -> None:
        app = app_of(self.answered())
        async with app.run_test(size=(200, 60)) as pilot:
            await pilot.pause()
            (title,) = [line for line in screen_text(app).splitlines() if "─ log" in line]
            assert "─ samples" in title
            assert "I am a lamp, how can I help you?" in screen_text(app)

    async def test_the_log_shows_samples_too(self) -> None:
        app = app_of(self.answered())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            assert "step 400  sample: {" in screen_text(app)

    async def test_without_a_prompt_the_parameter_is_named(self) -> None:
        app = app_of(running())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("w")
            await pilot.pause()
            assert "set sample_prompt on the Recipe screen (2)" in screen_text(app)


async def test_the_planned_end_of_a_sweeps_round_is_not_called_stopped() -> None:
    end = msgspec.structs.replace(ended(40, "stopped"), ends_round=True)
    view = view_of([*preparation(), *training(40), end])
    app = app_of({"run": run_of(view, "stopped")})
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        text = screen_text(app)
        assert text.count("sweep's round ended at step 40") == 2  # the notice and the log
        assert "stopped at step" not in text
