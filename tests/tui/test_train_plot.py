"""The Train screen's plots: figures, crosshair, zoom and overlays."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

from mlxft import recipe as recipes
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory
from mlxft.runs.followed import FollowedRun
from mlxft.runs.smoothing import LOSS_SMOOTHING
from mlxft.runs.view import RunView, fold
from mlxft_tui.plot import curves
from mlxft_tui.plot.run_plot import RunPlot
from mlxft_tui.plot.trend import Trend
from mlxft_tui.session import Session
from mlxft_tui.train.screen import TrainScreen
from support.journal import RUN_RECIPE, preparation, stamped, training, view_of, write_run
from support.session import ScreenApp, screen_text, settled
from support.train_screen import app_of, plot_rows, plot_title, run_of, running, tick


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


class TestReading:
    """Keys that change how the curve is drawn."""

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

    async def test_the_crosshair_shows_exact_values(self) -> None:
        app = app_of(running())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("plus", "plus", "plus", "plus", *["left"] * 20)
            await pilot.pause()
            run = app.place.run
            assert run is not None
            title = plot_title(app)
            step = int(title.split("step ")[1].split()[0])
            assert f"─ loss {run.view.steps.loss[step - 1]:.3f}  step" in title
            assert "smoothed 0." in title

    async def test_the_crosshair_keeps_its_step_while_a_long_run_is_thinned(self) -> None:
        longer = recipes.replace(RUN_RECIPE, "iters", 9000)
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

    async def test_the_x_axis_is_steps_tokens_or_time(self) -> None:
        app = app_of(running())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("x")
            assert "200k" in screen_text(app)
            await pilot.press("x")
            assert "2:00" in screen_text(app)

    async def test_a_frozen_view_is_marked_and_does_not_change(self) -> None:
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
    """Each figure can be in the large plot; the others are small beside it."""

    @pytest.mark.parametrize(
        ("presses", "title", "below"),
        [
            (1, "tok/s 1", "loss 0.526"),
            (2, "lr 1.26e-4  step 412", "tok/s 1"),
            (3, "gradient 0.", "lr 1.26e-4"),
            (4, "peak 2.35 GB  step 412", "gradient 0.656"),
            (5, "loss 0.526  step 412", "peak 2.35 GB"),
        ],
    )
    async def test_each_press_shows_the_next_figure(
        self, presses: int, title: str, below: str
    ) -> None:
        app = app_of(running())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press(*["m"] * presses)
            await pilot.pause()
            assert title in plot_title(app)
            trends = app.screen.query_one("#trends").region
            lines = screen_text(app).splitlines()
            assert below in lines[trends.y]

    async def test_the_crosshair_keeps_its_step_in_every_figure(self) -> None:
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

    async def test_an_unknown_figure_is_a_dash(self) -> None:
        steps = (
            ev.StepFinished(step=step, loss=1.0, tokens=9, seconds=0.4, learning_rate=2e-4)
            for step in range(1, 9)
        )
        app = app_of({"run": run_of(view_of([*preparation(), *steps]), "running")})
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("m", "m", "m")
            await pilot.pause()
            assert "gradient —" in plot_title(app)


class TestTitle:
    """A narrow title drops its least important parts."""

    async def test_the_x_axis_is_dropped_last(self) -> None:
        app = app_of(running(412))
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.press("x", "+")
            await pilot.pause()
            assert plot_title(app).endswith("ema 10 steps  linear  over tokens  ● validation ─")

    async def test_a_wide_title_shows_everything(self) -> None:
        app = app_of(running(412))
        async with app.run_test(size=(200, 60)) as pilot:
            await pilot.press("x", "+")
            await pilot.pause()
            how = "×2  ema 10 steps  linear  over tokens  ● validation  ▲ best ─"
            assert plot_title(app).endswith(how)


EARLIER = ("earlier1-1", "earlier2-1")


class TestEarlierRuns:
    """Other runs of the project, overlaid on this one."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for number in (1, 2):
            events = [*preparation(), *training(100 * number)]
            write_run(tmp_path / "adapters", RUN_RECIPE, events, f"earlier{number}")
        return tmp_path

    async def test_each_press_overlays_one_more_and_the_last_removes_them(
        self, folder: Path
    ) -> None:
        screen = TrainScreen(Session(folder))
        app = ScreenApp(screen, **running())
        seen = []
        async with app.run_test(size=(120, 40)) as pilot:
            for _ in range(3):
                await pilot.press("o")
                await settled(pilot, "earlier")
                seen.append([name for name in EARLIER if name in screen_text(app)])
        assert [len(names) for names in seen] == [1, 2, 0]

    async def test_a_run_is_not_overlaid_on_itself(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whichever of the two paths is absolute."""
        monkeypatch.chdir(folder)
        here = RunDirectory(folder / "adapters" / EARLIER[0])
        app = ScreenApp(
            TrainScreen(Session(Path())),
            run=FollowedRun(here, running()["run"].view, "running", RUN_RECIPE),
        )
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("o")
            await settled(pilot, "earlier")
            assert "earlier, smoothed  1 earlier2-1" in screen_text(app)

    async def test_the_legend_shows_their_loss_at_the_crosshair(self, folder: Path) -> None:
        screen = TrainScreen(Session(folder))
        app = ScreenApp(screen, **running(100))
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("o")
            await settled(pilot, "earlier")
            await pilot.press("left")
            await pilot.pause()
            loss = plot_title(app).split("smoothed ")[1].split()[0]
            assert re.search(rf"smoothed  1 earlier[12]-1 {loss}", plot_rows(app)[1])

    async def test_without_a_crosshair_the_legend_shows_their_loss_at_this_step(
        self, folder: Path
    ) -> None:
        app = ScreenApp(TrainScreen(Session(folder)), **running(60))
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("o")
            await settled(pilot, "earlier")
            steps = running(60)["run"].view.steps
            loss = curves.curve(steps, "loss", "step", LOSS_SMOOTHING).smooth[-1]
            assert re.search(rf"smoothed  1 earlier[12]-1 {loss:.3f}", plot_rows(app)[1])

    async def test_escape_removes_the_crosshair(self, folder: Path) -> None:
        app = ScreenApp(TrainScreen(Session(folder)), **running(100))
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("left")
            await pilot.pause()
            assert "smoothed" in plot_title(app)
            await pilot.press("escape")
            await pilot.pause()
            assert "smoothed" not in plot_title(app)


class TestTheme:
    async def test_another_theme_recolours_the_curves(self) -> None:
        app = app_of(running())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            plot = app.screen.query_one(RunPlot)
            dark = [segment.style for segment in plot.render_line(5)]
            app.theme = "textual-light"
            await pilot.pause()
            assert [segment.style for segment in plot.render_line(5)] != dark


class TestCost:
    """Unchanged rows are not repainted."""

    async def test_a_new_step_repaints_a_few_rows_of_the_curve(
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
