"""The train screen: what it shows in each state, and what its keys do."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlxft import recipe as recipes
from mlxft.engine.protocol import Continue, Pause, SaveCheckpoint, SetLearningRate, Stop, Validate
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory
from mlxft.runs.followed import FollowedRun
from mlxft.runs.view import RunView, State, fold
from mlxft_tui.frame.messages import ResumeRequested, TrainingRequested
from mlxft_tui.frame.pending import Refused
from mlxft_tui.plot.run_plot import RunPlot
from mlxft_tui.plot.trend import Trend
from mlxft_tui.session import Session
from mlxft_tui.text.cells import plain_text
from mlxft_tui.train.notice import Notice
from mlxft_tui.train.screen import TrainScreen
from mlxft_tui.widgets.cell_view import CellView
from support.quiet import settled
from support.scripted import write_run
from support.synthetic import (
    RECIPE,
    PlaceApp,
    finished,
    followed,
    preparation,
    sample,
    screen_text,
    stamped,
    training,
    view_of,
)

FOLDER = Path("/project")
SIZES = [(80, 24), (120, 40), (200, 60)]
FAILURE = ev.RunFailed(
    message="The GPU ran out of memory at step 331; halve batch_size or set grad_checkpoint.",
    step=330,
    log="/project/adapters/SmolLM2-135M-Instruct-lora-1/engine.log",
)


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def run_of(view: RunView, state: State) -> FollowedRun:
    return followed(FOLDER, view, state)


def waiting() -> dict[str, Any]:
    return {"recipe": RECIPE, "machine": sample(), "model_progress": "No model is chosen."}


def starting() -> dict[str, Any]:
    tokenizing = ev.ProgressMade(stage="tokenizing", done=120, total=300)
    return {"run": run_of(view_of([*preparation()[:3], tokenizing]), "starting")}


def running(steps: int = 412, *more: ev.AnyEvent) -> dict[str, Any]:
    events = [*preparation(gpu=True), *training(steps, gpu=True), *more]
    return {"run": run_of(view_of(events), "running"), "recipe": RECIPE}


def paused() -> dict[str, Any]:
    events = [*preparation(), *training(60), ev.RunPaused(step=60)]
    return {"run": run_of(view_of(events), "paused")}


def warned() -> dict[str, Any]:
    """The last steps' loss is far above what it was."""
    spike = (
        ev.StepFinished(step=step, loss=3.0, tokens=500, seconds=0.4, learning_rate=2e-4)
        for step in range(413, 418)
    )
    return running(412, *spike)


def done() -> dict[str, Any]:
    events = [*preparation(), *training(1000), finished()]
    return {"run": run_of(view_of(events), "finished"), "machine": sample()}


def failed() -> dict[str, Any]:
    return {"run": run_of(view_of([*preparation(), *training(330), FAILURE]), "failed")}


def lost() -> dict[str, Any]:
    return {"run": run_of(view_of([*preparation(), *training(90)]), "lost")}


def app_of(state: dict[str, Any]) -> PlaceApp:
    """The screen in this state, one second after the run's last event."""
    screen = TrainScreen(Session(FOLDER))
    run = state.get("run")
    now = (run.view.last_time or 0.0) + 1 if run else 0.0
    screen.clock = lambda: now
    return PlaceApp(screen, **state)


def plot_rows(app: PlaceApp) -> list[str]:
    plot = app.screen.query_one(RunPlot)
    return [plain_text(row) for row in plot.rows(*plot.size)]


def plot_title(app: PlaceApp) -> str:
    return plot_rows(app)[0]


class TestLooks:
    """Each state at the three sizes."""

    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize(
        "state", [waiting, starting, running, paused, warned, done, failed, lost]
    )
    def test_state(
        self,
        snap_compare: Callable[..., bool],
        state: Callable[[], dict[str, Any]],
        size: tuple[int, int],
    ) -> None:
        assert snap_compare(app_of(state()), terminal_size=size)

    async def test_before_any_run_the_key_that_starts_one_is_named(self) -> None:
        app = app_of(waiting())
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            assert "t starts training with this recipe" in screen_text(app)
            assert "No model is chosen." in screen_text(app)

    async def test_on_the_way_to_the_first_step_the_work_at_hand_is_shown(self) -> None:
        app = app_of(starting())
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            assert "tokenizing 40%" in screen_text(app)
            assert "✓ model llama, 135M parameters" in screen_text(app)

    async def test_a_finished_run_leads_to_its_best_adapter(self) -> None:
        app = app_of(done())
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            best = "the best, of step 700, is best_adapters.safetensors there; o in Chat asks it"
            assert best in screen_text(app)

    async def test_a_run_that_ended_above_its_first_loss_is_told_so(self) -> None:
        spoilt = [
            ev.StepFinished(step=step, loss=9.0, tokens=9, seconds=0.4, learning_rate=2e-4)
            for step in range(41, 61)
        ]
        view = view_of([*preparation(), *training(40), *spoilt, finished()])
        app = app_of({"run": run_of(view, "finished")})
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            for width in (120, 80):
                await pilot.resize_terminal(width, 40)
                await pilot.pause()
                shown = " ".join(screen_text(app).split())
                assert "This adapter is worse than the base model" in shown
                assert re.search(r"\(first loss [\d.]+, final loss [\d.]+\)", shown)

    async def test_a_finished_run_says_what_it_came_to_and_where_it_is(self) -> None:
        app = app_of(done())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            shown = screen_text(app)
            assert "loss 2.512 → 0.308   best val" in shown
            assert "best val 0.421 @700" in shown
            assert "adapters/SmolLM2-135M-Instruct-lora-1" in shown
            assert "4 talk to it" in shown

    async def test_a_failed_run_says_why_where_the_rest_is_and_the_way_on(self) -> None:
        app = app_of(failed())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            shown = screen_text(app)
            assert "The GPU ran out of memory at step 331" in shown
            assert "log /project/adapters/SmolLM2-135M-Instruct-lora-1/engine.log" in shown
            assert "r resume from step 200" in shown

    async def test_a_lost_engine_is_said_to_be_gone(self) -> None:
        app = app_of(lost())
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            assert "the engine is gone since step 90" in screen_text(app)

    async def test_a_figure_that_cannot_be_had_is_a_dash(self) -> None:
        app = app_of({"run": run_of(view_of([*preparation(), *training(3)]), "running")})
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            machine = app.screen.query_one("#machine", CellView)
            rows = [plain_text(row) for row in machine.rows(*machine.size)]
            assert any(row.startswith("CPU") and row.endswith("—") for row in rows)
            assert not any(row.startswith("GPU") for row in rows)

    async def test_a_laptops_memory_disk_heat_and_battery_are_told(self) -> None:
        app = app_of(running(20))
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            shown = screen_text(app)
            assert "wired 3.10 GB  compressed 0.80 GB" in shown
            assert "disk 212.0 GB free" in shown
            assert "heat nominal" in shown
            assert "batt 83%  on battery" in shown

    async def test_the_estimate_is_marked_beside_the_peak(self) -> None:
        loaded = ev.ModelLoaded(
            model="m",
            model_type="llama",
            total_parameters=1,
            trainable_parameters=1,
            quantization="none",
            dtype="float32",
            seconds=1.0,
            expected_peak=int(2.4e9),
        )
        app = app_of(running(20, loaded))
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            assert "◆ estimate 2.40 of 28.0 GB  fits" in screen_text(app)
            assert "MLX alone, rows up to" in screen_text(app)

    async def test_a_figure_of_the_gpu_that_can_t_be_had_is_a_dash(self) -> None:
        look = msgspec.structs.replace(
            sample(gpu=True), gpu_power=None, gpu_temperature=None, gpu_memory_used=9 * 10**9
        )
        app = app_of(running(20, ev.MachineSampled(sample=look)))
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            assert "— W · 1398 MHz · — °C" in screen_text(app)
            assert "driver holds 9.00 GB, all programs" in screen_text(app)

    async def test_that_sleep_is_held_off_is_told(self) -> None:
        app = app_of(running(20, ev.SleepPrevented(by="caffeinate")))
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            assert "sleep    held off while the run is live" in screen_text(app)

    async def test_a_gpu_of_which_nothing_is_known_has_a_dash_too(self) -> None:
        steps = (each for each in training(3) if not isinstance(each, ev.MachineSampled))
        app = app_of({"run": run_of(view_of([*preparation(gpu=True), *steps]), "running")})
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            machine = app.screen.query_one("#machine", CellView)
            rows = [plain_text(row) for row in machine.rows(*machine.size)]
            assert any(row.startswith("GPU") and row.endswith("—") for row in rows)

    async def test_a_step_that_is_long_in_coming_is_pointed_out(self) -> None:
        app = app_of(running(40))
        async with app.run_test(size=(80, 24)) as pilot:
            screen = app.place
            assert isinstance(screen, TrainScreen)
            last = screen.run.view.awaited_since if screen.run else None
            assert last is not None
            screen.clock = lambda: last + 40
            app.publish(run=running(40)["run"])
            await pilot.pause()
            assert "no step for 40 s" in screen_text(app)


class TestReading:
    """Keys that change how the curve is looked at."""

    @pytest.mark.parametrize(
        ("keys", "title"),
        [
            ([], "ema 10 steps  linear"),
            (["full_stop"], "ema 20 steps"),
            (["comma", "comma", "comma"], "raw  linear"),
            (["y"], "ema 10 steps  log"),
            (["plus", "plus"], "×4  ema 10"),
            (["plus", "plus", "minus"], "×2  ema 10"),
            (["plus", "0"], "─ ema 10"),
            (["left"], "step 405"),
            (["left", "right"], "step 412"),
        ],
    )
    async def test_key(self, keys: list[str], title: str) -> None:
        app = app_of(running())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press(*keys)
            await pilot.pause()
            assert title in plot_title(app)

    async def test_the_crosshair_gives_the_exact_values(self) -> None:
        app = app_of(running())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("plus", "plus", "plus", "plus", *["left"] * 20)
            await pilot.pause()
            run = app.place.run
            assert run is not None
            title = plot_title(app)
            step = int(title.split("step ")[1].split()[0])
            assert f"raw {run.view.steps.loss[step - 1]:.3f}" in title

    async def test_the_crosshair_stays_at_its_step_while_a_long_run_is_thinned(self) -> None:
        longer = recipes.replace(RECIPE, "iters", 9000)
        events = stamped([*preparation(longer), *training(9000, longer)])
        before = fold(RunView(), events[: len(events) // 3])
        app = app_of({"run": run_of(before, "running")})

        def step() -> int:
            return int(plot_title(app).split("step ")[1].split()[0])

        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press(*["H"] * 4)
            await pilot.pause()
            seen = step()
            after = fold(before, events[len(events) // 3 :])
            assert len(after.steps) < 9000
            app.publish(run=run_of(after, "running"))
            await pilot.pause()
            assert seen <= step() < seen + 8

    async def test_the_curve_goes_over_steps_tokens_or_time(self) -> None:
        app = app_of(running())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("x")
            assert "200k" in screen_text(app)
            await pilot.press("x")
            assert "2:00" in screen_text(app)

    async def test_a_frozen_view_stands_still_and_says_so(self) -> None:
        app = app_of(running())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("space")
            app.publish(run=running(420)["run"])
            await pilot.pause()
            assert "step 412  FROZEN" in plot_title(app)
            await pilot.press("space")
            await pilot.pause()
            assert "step 420" in plot_title(app)

    async def test_the_log_can_be_scrolled_back(self) -> None:
        app = app_of(running())
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.press("pageup", "pageup", "up")
            await pilot.pause()
            assert "newer ↓" in screen_text(app)
            await pilot.press("pagedown", "pagedown", "pagedown")
            await pilot.pause()
            assert "newer ↓" not in screen_text(app)


class TestFigures:
    """Each of a run's figures can be the large one; the others stand small beside it."""

    @pytest.mark.parametrize(
        ("presses", "title", "below"),
        [
            (1, "tok/s 1", "loss 0.535"),
            (2, "lr 1.26e-4  step 412", "tok/s 1"),
            (3, "gradient 0.", "lr 1.26e-4"),
            (4, "peak 2.35 GB  step 412", "gradient 0.656"),
            (5, "loss 0.535  step 412", "peak 2.35 GB"),
        ],
    )
    async def test_one_after_the_other(self, presses: int, title: str, below: str) -> None:
        app = app_of(running())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press(*["m"] * presses)
            await pilot.pause()
            assert title in plot_title(app)
            trends = app.screen.query_one("#trends").region
            lines = screen_text(app).splitlines()
            assert below in lines[trends.y]

    async def test_the_crosshair_stays_at_its_step_and_names_every_figure(self) -> None:
        app = app_of(running())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press(*["H"] * 3, "m", "m")
            await pilot.pause()
            run = app.place.run
            assert run is not None
            step = int(plot_title(app).split("step ")[1].split()[0])
            assert 0 < step < 412
            rate = run.view.steps.learning_rate[step - 1]
            assert f"lr {rate:.2e}".replace("e-0", "e-") in plot_title(app)
            lines = screen_text(app).splitlines()
            peak = run.view.steps.peak_memory[step - 1] / 1e9
            assert f"peak {peak:.2f} GB" in lines[app.screen.query_one("#trends").region.y]

    async def test_small_curves_follow_the_zoom(self) -> None:
        app = app_of(running())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            trends = app.screen.query(Trend)
            before = [trend.rows(*trend.size) for trend in trends]
            await pilot.press("plus", "plus")
            await pilot.pause()
            assert all(
                trend.rows(*trend.size) != rows for trend, rows in zip(trends, before, strict=True)
            )

    async def test_a_figure_that_is_not_known_has_a_dash(self) -> None:
        steps = (
            ev.StepFinished(step=step, loss=1.0, tokens=9, seconds=0.4, learning_rate=2e-4)
            for step in range(1, 9)
        )
        app = app_of({"run": run_of(view_of([*preparation(), *steps]), "running")})
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("m", "m", "m")
            await pilot.pause()
            assert "gradient —" in plot_title(app)


class TestKept:
    """What the side panel says of the run's checkpoints."""

    async def test_a_checkpoint_that_was_pruned_has_left_its_adapter(self) -> None:
        app = app_of(done())
        async with app.run_test(size=(200, 60)) as pilot:
            await pilot.pause()
            kept = {f"step {step}  checkpoint" for step in (600, 800, 1000)}
            left = {f"step {step}  adapter only" for step in (200, 400)}
            assert all(text in screen_text(app) for text in kept | left)

    async def test_one_that_was_saved_twice_is_listed_once(self) -> None:
        again = ev.CheckpointSaved(step=400, path="checkpoints/0000400", best=False)
        app = app_of(running(412, again))
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            assert screen_text(app).count("step 400  checkpoint") == 1

    async def test_a_rate_that_was_changed_by_hand_is_told(self) -> None:
        app = app_of(running(412, ev.LearningRateChanged(step=412, learning_rate=5e-5)))
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            assert "rate     2e-4, now 5e-5, adam" in screen_text(app)


class TestTitle:
    """What the curve is and how it is drawn; what matters least gives way to the rest."""

    async def test_what_the_curve_is_drawn_over_goes_last(self) -> None:
        app = app_of(running(412))
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.press("x", "+")
            await pilot.pause()
            assert plot_title(app).endswith("ema 10 steps  linear  over tokens  ● validation ─")

    async def test_where_there_is_room_all_of_it_is_told(self) -> None:
        app = app_of(running(412))
        async with app.run_test(size=(200, 60)) as pilot:
            await pilot.press("x", "+")
            await pilot.pause()
            how = "×2  ema 10 steps  linear  over tokens  ● validation  ▲ best ─"
            assert plot_title(app).endswith(how)


class TestLog:
    """One line for each event worth reading, narrowed by a key."""

    async def test_the_filter_shows_one_kind_of_events_after_the_other(self) -> None:
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

    async def test_a_kind_of_which_there_is_nothing_is_told(self) -> None:
        app = app_of(running(5))
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("f")
            await pilot.pause()
            assert "only results, none yet" in screen_text(app)

    async def test_what_one_has_scrolled_back_to_stays_while_the_log_grows(self) -> None:
        events = [*preparation(gpu=True), *training(420, gpu=True)]
        app = app_of({"run": run_of(view_of(events[:-30]), "running")})
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("pageup")
            await pilot.pause()
            before = screen_text(app).split("─ log")[1].splitlines()[1:8]
            app.publish(run=run_of(view_of(events), "running"))
            await pilot.pause()
            assert screen_text(app).split("─ log")[1].splitlines()[1:8] == before

    async def test_over_ssh_reports_wait_for_each_other(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
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


def tick(app: PlaceApp) -> None:
    assert isinstance(app.place, TrainScreen)
    app.place._tick()


class TestPace:
    """Figures follow each step, curves each second; over SSH the clock alone paints nothing."""

    async def test_steps_within_a_second_are_told_at_once_and_drawn_together(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mlxft_tui.screens.train.TICK_SECONDS", 3600.0)
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

    async def test_the_last_steps_are_drawn_when_a_run_is_paused_or_ends(self) -> None:
        app = app_of(running(410))
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            paused = running(412, ev.RunPaused(step=412))["run"].view
            app.publish(run=run_of(paused, "paused"))
            await pilot.pause()
            assert "step 412" in screen_text(app).split("─ loss")[1].splitlines()[0]

    @pytest.mark.parametrize(("after", "paints"), [(0.5, 0), (1.5, 1)])
    async def test_the_clock_alone_paints_only_where_no_event_does(
        self, after: float, paints: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSH_TTY", "/dev/pts/1")
        app = app_of(running(410))
        screen = app.place
        assert isinstance(screen, TrainScreen)
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            told: list[object] = []
            monkeypatch.setattr(screen.query_one(Notice), "show", told.append)
            later = screen.clock() + after
            screen.clock = lambda: later
            screen._tick()
            assert len(told) == paints


class TestSamples:
    """What the model says to one prompt while it learns."""

    def answered(self) -> dict[str, Any]:
        said = ["I am a lamp, how can I help you?", '{"lamp": 3, "on": true}\nIt is on.']
        answers = (
            ev.SampleAnswered(step=step, prompt="Turn on lamp 3", text=text, tokens=9, seconds=0.5)
            for step, text in zip((0, 400), said, strict=True)
        )
        state = running(412, *answers)
        recipe = recipes.replace(RECIPE, "sample_prompt", "Turn on lamp 3")
        return {"run": followed(FOLDER, state["run"].view, "running", recipe), "recipe": recipe}

    async def test_the_answers_are_listed_with_their_steps(self) -> None:
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
    async def test_a_key_of_the_log_leads_back_to_it(self, key: str) -> None:
        app = app_of(self.answered())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("w", key)
            await pilot.pause()
            assert "─ log" in screen_text(app)
            assert "only" not in screen_text(app)

    async def test_those_of_a_run_that_is_gone_are_not_shown(self) -> None:
        app = app_of(self.answered())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("w")
            app.publish(run=None)
            await pilot.pause()
            assert "I am a lamp" not in screen_text(app)

    async def test_a_wide_terminal_has_them_beside_the_log(self) -> None:
        app = app_of(self.answered())
        async with app.run_test(size=(200, 60)) as pilot:
            await pilot.pause()
            (title,) = [line for line in screen_text(app).splitlines() if "─ log" in line]
            assert "─ samples" in title
            assert "I am a lamp, how can I help you?" in screen_text(app)

    async def test_the_log_names_them_too(self) -> None:
        app = app_of(self.answered())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            assert "step 400  says: {" in screen_text(app)

    async def test_without_a_prompt_the_way_to_one_is_told(self) -> None:
        app = app_of(running())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("w")
            await pilot.pause()
            assert "set sample_prompt on the Recipe screen (2)" in screen_text(app)


EARLIER = ("earlier1-1", "earlier2-1")


class TestEarlierRuns:
    """Other runs of the folder, laid under this one's loss."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for number in (1, 2):
            events = [*preparation(), *training(100 * number)]
            write_run(tmp_path / "adapters", RECIPE, events, f"earlier{number}")
        return tmp_path

    async def test_each_press_lays_one_more_under_it_and_the_last_takes_them_away(
        self, folder: Path
    ) -> None:
        screen = TrainScreen(Session(folder))
        app = PlaceApp(screen, **running())
        seen = []
        async with app.run_test(size=(120, 40)) as pilot:
            for _ in range(3):
                await pilot.press("o")
                await settled(pilot, "earlier")
                seen.append([name for name in EARLIER if name in screen_text(app)])
        assert [len(names) for names in seen] == [1, 2, 0]

    async def test_a_run_is_not_laid_under_itself(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whether the folder or the run was named by its whole path."""
        monkeypatch.chdir(folder)
        here = RunDirectory(folder / "adapters" / EARLIER[0])
        app = PlaceApp(
            TrainScreen(Session(Path())),
            run=FollowedRun(here, running()["run"].view, "running", RECIPE),
        )
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("o")
            await settled(pilot, "earlier")
            assert "earlier  1 earlier2-1" in screen_text(app)

    async def test_the_legend_gives_their_loss_at_the_crosshair(self, folder: Path) -> None:
        screen = TrainScreen(Session(folder))
        app = PlaceApp(screen, **running(100))
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("o")
            await settled(pilot, "earlier")
            await pilot.press("left")
            await pilot.pause()
            loss = plot_title(app).split("loss ")[1].split()[0]
            assert re.search(rf"earlier  1 earlier[12]-1 {loss}", plot_rows(app)[1])

    async def test_without_one_it_gives_their_loss_at_the_step_of_this_run(
        self, folder: Path
    ) -> None:
        app = PlaceApp(TrainScreen(Session(folder)), **running(60))
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("o")
            await settled(pilot, "earlier")
            loss = plot_title(app).split("loss ")[1].split()[0]
            assert re.search(rf"earlier  1 earlier[12]-1 {loss}", plot_rows(app)[1])

    async def test_escape_takes_the_crosshair_away(self, folder: Path) -> None:
        app = PlaceApp(TrainScreen(Session(folder)), **running(100))
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("left")
            await pilot.pause()
            assert "raw" in plot_title(app)
            await pilot.press("escape")
            await pilot.pause()
            assert "raw" not in plot_title(app)


class TestSteering:
    """Keys that act on the run: asked for at once, done when the journal says so."""

    @pytest.mark.parametrize(
        ("keys", "command", "asked", "confirmation"),
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
    async def test_a_command_stands_as_asked_until_its_event(
        self, keys: list[str], command: object, asked: str, confirmation: ev.AnyEvent
    ) -> None:
        app = app_of(running())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press(*keys)
            await pilot.pause()
            assert app.asked[-1] == command
            assert asked in screen_text(app)
            app.publish(run=running(412, confirmation)["run"])
            await pilot.pause()
            assert "asked" not in screen_text(app)

    async def test_what_no_engine_has_taken_is_not_waited_for(self) -> None:
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
            assert "asked" not in screen_text(app)

    async def test_a_key_goes_on_from_the_rate_that_was_confirmed_last(self) -> None:
        """Also while no step has been trained with it."""
        confirmed = ev.LearningRateChanged(step=412, learning_rate=4e-4)
        app = app_of(running(412, confirmed))
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("left_square_bracket")
            await pilot.pause()
            assert app.asked[-1] == SetLearningRate(2e-4, 4e-4)

    async def test_a_narrow_line_tells_what_is_done_without_a_bar(self) -> None:
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

    async def test_a_closing_validation_that_a_stop_left_off_is_said(self) -> None:
        ended = msgspec.structs.replace(finished(), reason="stopped")
        view = view_of([*preparation(), *training(1000), ended])
        app = app_of({"run": run_of(view, "stopped")})
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            assert "stopped at step 1000" in screen_text(app)
            assert "without its closing validation" in screen_text(app)
            assert "r resume" in screen_text(app)

    async def test_the_question_goes_on_with_the_run_and_leaves_with_it(self) -> None:
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

    async def test_a_paused_run_goes_on_with_the_same_key(self) -> None:
        app = app_of(paused())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("p")
            await pilot.pause()
            assert app.asked == [Continue()]

    async def test_without_a_run_t_starts_one_and_nothing_can_be_steered(self) -> None:
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
    """What the figures say, and the key that follows it."""

    async def test_a_spike_is_named_with_its_evidence_and_its_key(self) -> None:
        app = app_of(warned())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            assert "→ The loss has spiked: halve the learning rate to 1e-4." in screen_text(app)
            await pilot.press("a")
            await pilot.pause()
            assert app.asked == [SetLearningRate(1e-4, 2e-4)]

    async def test_learning_by_heart_can_be_ended_with_the_same_key(self) -> None:
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

    async def test_advice_stays_for_a_while_after_its_reason(self) -> None:
        app = app_of(warned())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            app.publish(run=running(420)["run"])
            await pilot.pause()
            assert "→ The loss has spiked" in screen_text(app)

    async def test_what_was_asked_for_is_not_advised_again(self) -> None:
        app = app_of(warned())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("a")
            app.publish(run=warned()["run"])
            await pilot.pause()
            assert "→" not in screen_text(app)

    async def test_a_run_that_its_guard_has_ended_goes_on_at_half_the_rate(self) -> None:
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

    async def test_a_calm_run_is_left_alone(self) -> None:
        app = app_of(running(200))
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("a")
            await pilot.pause()
            assert app.asked == []
            assert "→" not in screen_text(app)


class TestKeyBar:
    """The keys that act, as many as have room."""

    @pytest.mark.parametrize(("width", "marked"), [(80, True), (200, False)])
    async def test_says_whether_there_are_more(self, width: int, marked: bool) -> None:
        app = app_of(running())
        async with app.run_test(size=(width, 40)) as pilot:
            await pilot.pause()
            assert ("…" in screen_text(app).splitlines()[-1]) == marked


class TestTheme:
    async def test_another_theme_gives_the_curves_other_colours(self) -> None:
        app = app_of(running())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            plot = app.screen.query_one(RunPlot)
            dark = plot._style("smooth")
            app.theme = "textual-light"
            await pilot.pause()
            assert plot._style("smooth") != dark


class TestCost:
    """What is not changed is not painted again."""

    async def test_another_step_repaints_a_few_rows_of_the_curve(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        events = stamped([*preparation(), *training(412)])
        before = fold(RunView(), events[:-1])
        app = app_of({"run": run_of(before, "running")})
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            plot = app.screen.query_one(RunPlot)
            painted: list[Any] = []
            monkeypatch.setattr(plot, "refresh", lambda *regions, **_: painted.extend(regions))
            app.publish(run=run_of(fold(before, events[-1:]), "running"))
            await pilot.pause()
            tick(app)
            assert 1 <= len(painted) <= 6
            assert all(region.height == 1 for region in painted)
