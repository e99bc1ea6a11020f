"""A sweep's report against the journals of its runs."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest

from mlxft import recipe as recipes
from mlxft.runs import events as ev
from mlxft.runs.directory import create
from mlxft.sweep.halving import with_round
from mlxft.sweep.plan import Halving, Sweep, points
from mlxft.sweep.record import Round, SweepRecord, load_record, recorded, save_record
from mlxft.sweep.report import comma_separated, markdown, results
from mlxft_tui.cli.main import main
from support.journal import RUN_RECIPE, ended, trained_run, write_run

RATES = [1e-4, 2e-4, 4e-4, 8e-4, 1e-3]
BEST = {1: 0.9, 2: 0.75}


@pytest.fixture
def record(tmp_path: Path) -> SweepRecord:
    """Two trained points, a failed one, one that waits and one that was skipped."""
    sweep = Sweep(name="rates", grid={"learning_rate": RATES})
    found = points(sweep, RUN_RECIPE)
    record = recorded(sweep, found, {5: "needs 40 GB of memory, of 18 GB"})
    for point in found[:4]:
        recipe, number = point.recipe, point.number
        if number == 4:
            run = create(tmp_path / "adapters", recipe, "", queued=True)
        elif number == 3:
            failed = ev.RunFailed(message="Step 5: out of memory; lower it.", step=5, log="")
            run = write_run(tmp_path / "adapters", recipe, [*trained_run(recipe, 5), failed])
        else:
            best = ev.ValidationFinished(step=20, loss=BEST[number], tokens=9, seconds=1, best=True)
            events = [*trained_run(recipe, 20), best, ended(20)]
            run = write_run(tmp_path / "adapters", recipe, events)
        record = record.with_run(number, run.name)
    save_record(tmp_path, record)
    return load_record(tmp_path, "rates")


class TestReport:
    def test_the_best_point_is_first_and_each_has_its_runs_figures(
        self, record: SweepRecord, tmp_path: Path
    ) -> None:
        found = results(tmp_path / "adapters", record)
        assert [each.point.number for each in found][:2] == [2, 1]
        assert {each.point.number: each.state for each in found} == {
            1: "finished",
            2: "finished",
            3: "failed",
            4: "waiting",
            5: "skipped",
        }
        best = found[0]
        assert (best.best, best.best_step, best.steps, best.iters) == (0.75, 20, 20, 1000)
        assert best.peak_memory == ended(20).peak_memory
        assert best.seconds == ended(20).seconds

    def test_points_between_rounds_say_what_they_wait_for(self, tmp_path: Path) -> None:
        sweep = Sweep(name="s", grid={"seed": [1, 2, 3, 4]}, halving=Halving(first=10, factor=2))
        found, adapters = points(sweep, recipes.replace(RUN_RECIPE, "iters", 40)), tmp_path / "a"
        record = recorded(sweep, found, {})
        for point in found:
            recipe, step = point.recipe, 5 if point.number == 4 else 10
            events = [*trained_run(recipe, step), ended(step, "stopped")]
            record = record.with_run(point.number, write_run(adapters, recipe, events).name)

        def stages(record: SweepRecord, **held: bool) -> list[str]:
            queued = {adapters / str(record.points[int(n[1:]) - 1].run): held[n] for n in held}
            return [each.standing for each in results(adapters, record, queued=queued)]

        assert stages(record, p4=False) == [*["ended round 1"] * 3, "waits for round 1"]
        assert stages(record)[3] == "stopped"
        second = with_round(record, Round(until=20, points=(1, 2, 3), is_queued=True))
        assert stages(second, p1=False, p2=True) == [
            "waits for round 2",
            "held",
            "stopped",
            "dropped after round 1",
        ]
        page = markdown(second, results(adapters, second))
        assert "4 points: 3 waits for round 2, 1 dropped after round 1." in page

    def test_as_markdown(self, record: SweepRecord, tmp_path: Path) -> None:
        page = markdown(record, results(tmp_path / "adapters", record))
        assert "The lowest validation loss, 0.750, has learning_rate 2e-4" in page
        lines = [each.split(" | ") for each in page.splitlines() if each.startswith("| ")]
        assert [each[0] for each in lines[2:]] == ["| 2e-4", "| 1e-4", "| 4e-4", "| 8e-4"]
        assert [each[3] for each in lines[2:4]] == ["0.750 @20", "0.900 @20"]
        assert "- learning_rate 4e-4: Step 5: out of memory; lower it." in page
        assert "- learning_rate 1e-3: needs 40 GB of memory, of 18 GB" in page

    def test_as_csv(self, record: SweepRecord, tmp_path: Path) -> None:
        text = comma_separated(record, results(tmp_path / "adapters", record))
        rows = list(csv.DictReader(text.splitlines()))
        assert [each["learning_rate"] for each in rows][:2] == ["0.0002", "0.0001"]
        assert (rows[0]["best_validation_loss"], rows[0]["state"]) == ("0.75", "finished")
        assert recipes.PARAMETERS.keys() & rows[0].keys() == {"learning_rate"}

    def test_as_csv_has_no_command_for_a_terminal(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sweep = Sweep(name="s", grid={"model": ["a\x1b]0;b\x07", "c"]})
        save_record(tmp_path, recorded(sweep, points(sweep, RUN_RECIPE), {}))
        command = ["sweep-report", "--csv", "--dir", str(tmp_path)]
        assert main(command) == 0
        assert "\x1b" in capsys.readouterr().out
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        assert main(command) == 0
        shown = capsys.readouterr().out
        assert shown.replace("\n", "").isprintable()
        assert "␛]0;b␇" in shown
