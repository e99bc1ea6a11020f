"""Every place that shows a run's loss shows the one that mlx-lm would have printed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from mlxft.runs import events as ev
from mlxft_tui.cli.main import main
from mlxft_tui.text import event_text
from support.journal import ended, trained_run, write_run
from support.session import RECIPE, Opened, screen_text, settled

REPORTED = 0.8 + sum(2 / step for step in range(31, 41)) / 10


@pytest.mark.parametrize("steps", [40, 43])
async def test_the_loss_is_the_last_reports_everywhere(
    opened: Opened, folder: Path, capsys: pytest.CaptureFixture[str], steps: int
) -> None:
    """Also while later steps wait for their report."""
    events = trained_run(RECIPE, steps)
    report = next(each for each in reversed(events) if isinstance(each, ev.TrainReported))
    assert report.loss == pytest.approx(REPORTED)
    loss = f"{REPORTED:.3f}"
    assert f"loss {loss}" in (event_text.line(report) or "")
    ending = msgspec.structs.replace(ended(steps, "stopped"), final_loss=REPORTED)
    write_run(folder / "adapters", RECIPE, [*events, ending])
    assert main(["runs", "--json", "--dir", str(folder)]) == 0
    assert json.loads(capsys.readouterr().out)[0]["loss"] == pytest.approx(REPORTED)
    assert main(["runs", "--dir", str(folder)]) == 0
    assert f" {loss}  " in capsys.readouterr().out
    app = opened()
    async with app.run_test(size=(160, 50)) as pilot:
        await settled(pilot)
        await pilot.press("3")
        await settled(pilot)
        shown = screen_text(app)
        for place in (
            rf"STOPPED.*  loss {loss}  best val",
            rf"─ loss {loss}  step {steps} ",
            rf"■ stopped at step {steps}.* loss 2\.800 → {loss} ",
            rf"step 40  loss {loss}  lr",
            rf"stopped at step {steps}  loss 2\.800 → {loss} \(last report\)",
        ):
            assert re.search(place, shown), f"{place}\n{shown}"
        await pilot.press("5")
        await settled(pilot)
        assert re.search(rf"stopped +{steps}/225 +{loss} +0\.950 @40 +62\.0%", screen_text(app))
