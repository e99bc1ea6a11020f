"""The Train screen in each state."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlxft.engine.machine import only_training
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory
from mlxft_tui.text.cells import plain_text
from mlxft_tui.train.screen import TrainScreen
from mlxft_tui.widgets.cell_view import CellView
from support.journal import (
    RUN_RECIPE,
    finished,
    preparation,
    reported,
    sample,
    training,
    view_of,
)
from support.session import screen_text
from support.train_screen import (
    SIZES,
    app_of,
    done,
    failed,
    lost,
    paused,
    run_of,
    running,
    sampling,
    starting,
    waiting,
    warned,
)


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


class TestLooks:
    """Each state at the three sizes."""

    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize(
        "state", [waiting, starting, sampling, running, paused, warned, done, failed, lost]
    )
    def test_state(
        self,
        snap_compare: Callable[..., bool],
        state: Callable[[], dict[str, Any]],
        size: tuple[int, int],
    ) -> None:
        assert snap_compare(app_of(state()), terminal_size=size)

    async def test_without_a_run_the_key_to_start_one_is_shown(self) -> None:
        app = app_of({"recipe": RUN_RECIPE})
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            assert "t starts training with this recipe" in screen_text(app)
            app.publish(model_progress="No model is chosen.")
            await pilot.pause()
            assert "starts training" not in screen_text(app)
            assert "No model is chosen." in screen_text(app)

    async def test_the_slowest_of_several_processes_is_marked(self) -> None:
        ranks = [
            ev.RankReport(
                rank=rank,
                host="127.0.0.1",
                seconds=seconds,
                tokens_per_second=500 / seconds,
                busy=seconds / 0.7,
                active_memory=1_480_000_000,
            )
            for rank, seconds in enumerate((0.41, 0.62))
        ]
        app = app_of(running(412, ev.RanksReported(step=410, ranks=ranks)))
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            shown = screen_text(app)
            assert "rank 0    1220 tok/s  59%  1.48 GB" in shown
            assert "1     806 tok/s  89%  1.48 GB slow" in shown

    async def test_processes_on_several_machines_have_their_names(self) -> None:
        ranks = [
            ev.RankReport(rank=rank, host=host, seconds=1.0 + rank, tokens_per_second=500, busy=0.9)
            for rank, host in enumerate(("127.0.0.1", "lab@studio-in-the-attic.local", "10.0.0.23"))
        ]
        app = app_of(running(412, ev.RanksReported(step=410, ranks=ranks)))
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            shown = screen_text(app)
            assert "0 here           500  90%" in shown
            assert "1 studio-in-…    500  90%" in shown
            assert "2 10.0.0.23      500  90%        — slow" in shown
            await pilot.resize_terminal(80, 24)
            await pilot.pause()
            assert "rank 2 slow" in screen_text(app)

    async def test_a_start_that_would_be_refused_is_not_offered(self, tmp_path: Path) -> None:
        app = app_of({"recipe": RUN_RECIPE})
        with only_training(RunDirectory(tmp_path / "other")):
            async with app.run_test(size=(80, 24)) as pilot:
                await pilot.pause()
                assert "starts training" not in screen_text(app)
                assert "is training on this machine" in " ".join(screen_text(app).split())

    async def test_before_the_first_step_the_current_stage_is_shown(self) -> None:
        app = app_of(starting())
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            assert "tokenizing 40%" in screen_text(app)
            assert "✓ model llama, 135M parameters" in screen_text(app)

    async def test_a_finished_run_names_its_best_adapter(self) -> None:
        app = app_of(done())
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            best = "best adapter, step 700: best_adapters.safetensors; o in Chat selects it"
            assert best in screen_text(app)

    async def test_a_run_that_ended_above_its_first_loss_has_a_warning(self) -> None:
        spoilt = [
            ev.StepFinished(step=step, loss=9.0, tokens=9, seconds=0.4, learning_rate=2e-4)
            for step in range(41, 61)
        ]
        report = reported(60, [9.0] * 10, RUN_RECIPE)
        view = view_of([*preparation(), *training(40), *spoilt, report, finished()])
        app = app_of({"run": run_of(view, "finished")})
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            for width in (120, 80):
                await pilot.resize_terminal(width, 40)
                await pilot.pause()
                shown = " ".join(screen_text(app).split())
                assert "This adapter is worse than the base model" in shown
                assert re.search(r"\(first loss [\d.]+, final loss [\d.]+\)", shown)

    async def test_a_finished_run_shows_its_results_and_path(self) -> None:
        app = app_of(done())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            shown = screen_text(app)
            assert "loss 2.512 → 0.309   best val" in shown
            assert "best val 0.421 @700" in shown
            assert "validation 2.614 before training, improved by 83.9%" in shown
            assert "adapters/SmolLM2-135M-Instruct-lora-1" in shown
            assert "4 chat with it" in shown

    async def test_a_failed_run_shows_error_log_and_keys(self) -> None:
        app = app_of(failed())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            shown = screen_text(app)
            assert "The GPU ran out of memory at step 331" in shown
            assert "log /project/adapters/SmolLM2-135M-Instruct-lora-1/engine.log" in shown
            assert "r resume from step 200" in shown

    async def test_a_lost_run_shows_where_its_engine_died(self) -> None:
        app = app_of(lost())
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            assert "the engine died at step 90" in screen_text(app)

    async def test_an_unavailable_figure_is_a_dash(self) -> None:
        app = app_of({"run": run_of(view_of([*preparation(), *training(3)]), "running")})
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            machine = app.screen.query_one("#machine", CellView)
            rows = [plain_text(row) for row in machine.rows(*machine.size)]
            assert any(row.startswith("CPU") and row.endswith("—") for row in rows)
            assert not any(row.startswith("GPU") for row in rows)

    async def test_memory_disk_heat_and_battery_of_a_laptop(self) -> None:
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
            assert "MLX only, rows up to" in screen_text(app)

    async def test_an_unavailable_gpu_figure_is_a_dash(self) -> None:
        look = msgspec.structs.replace(
            sample(gpu=True), gpu_power=None, gpu_temperature=None, gpu_memory_used=9 * 10**9
        )
        app = app_of(running(20, ev.MachineSampled(sample=look)))
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            assert "— W · 1398 MHz · — °C" in screen_text(app)
            assert "driver uses 9.00 GB, all programs" in screen_text(app)

    async def test_prevented_sleep_is_shown(self) -> None:
        app = app_of(running(20, ev.SleepPrevented(by="caffeinate")))
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            assert "sleep    prevented while the run is live" in screen_text(app)

    async def test_a_gpu_without_figures_has_dashes(self) -> None:
        steps = (each for each in training(3) if not isinstance(each, ev.MachineSampled))
        app = app_of({"run": run_of(view_of([*preparation(gpu=True), *steps]), "running")})
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            machine = app.screen.query_one("#machine", CellView)
            rows = [plain_text(row) for row in machine.rows(*machine.size)]
            assert any(row.startswith("GPU") and row.endswith("—") for row in rows)

    async def test_a_late_step_is_reported(self) -> None:
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


class TestResults:
    """Validations and checkpoints in the side panel."""

    async def test_a_pruned_checkpoint_keeps_its_adapter(self) -> None:
        app = app_of(done())
        async with app.run_test(size=(200, 60)) as pilot:
            await pilot.pause()
            kept = {f"step {step}  checkpoint" for step in (600, 800, 1000)}
            left = {f"step {step}  adapter only" for step in (200, 400)}
            assert all(text in screen_text(app) for text in kept | left)

    async def test_a_checkpoint_saved_twice_is_listed_once(self) -> None:
        again = ev.CheckpointSaved(step=400, path="checkpoints/0000400", best=False)
        app = app_of(running(412, again))
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            assert screen_text(app).count("step 400  checkpoint") == 1

    async def test_a_manual_learning_rate_is_shown(self) -> None:
        app = app_of(running(412, ev.LearningRateChanged(step=412, learning_rate=5e-5)))
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            assert "rate     2e-4, now 5e-5, adam" in screen_text(app)


class TestKeyBar:
    """The keys that act, as many as fit."""

    @pytest.mark.parametrize(("width", "marked"), [(80, True), (200, False)])
    async def test_shows_whether_there_are_more(self, width: int, marked: bool) -> None:
        app = app_of(running())
        async with app.run_test(size=(width, 40)) as pilot:
            await pilot.pause()
            assert ("…" in screen_text(app).splitlines()[-1]) == marked


class TestClosing:
    async def test_a_screen_without_panes_is_not_drawn(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One that is opened while the application closes never gets any."""
        app = app_of(running(30))
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            screen = app.place
            assert isinstance(screen, TrainScreen)
            await screen.query("#main").remove()
            monkeypatch.setattr(type(app), "is_running", False)
            screen._redraws.request_all()
            screen._show()
