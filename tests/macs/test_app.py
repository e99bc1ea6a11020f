"""The whole app on Macs made of captures: each gauge is a right number or a dash."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from textual.pilot import Pilot

from mlxft_tui.app import MlxftApp, follower
from support.macs import MACHINES, Mac
from support.records import records, write_records
from support.session import RECIPE, QuietSession, settled, words

SEEN = {
    "M1, 8 GB": ("34%", "driver uses 1.20 GB", "7.14 of 8.59 GB", "2.24 GB pressure warning"),
    "M2 Pro, 32 GB": ("42%", "24.3 of 34.4 GB", "swap 0.00 GB pressure normal", "nominal"),
    "M3 Max, 128 GB": ("29%", "29.9 of 137.4 GB"),
    "M4 Max, 64 GB, comma": ("16%", "53.0 of 59.8 GB", "10.2 GB pressure critical"),
    "M5 Pro, 48 GB": ("87%", "33.3 of 42.9 GB"),
    "M3 Ultra, 512 GB": ("0%", "203 of 550 GB", "0.40 of 547.4 GB"),
}
"""What the Train screen says of each machine."""


async def until_shown(pilot: Pilot[None], app: MlxftApp, *texts: str) -> None:
    end = time.monotonic() + 60
    while missing := [each for each in texts if each not in words(app)]:
        assert time.monotonic() < end, f"{missing} not in {words(app)}"
        await pilot.pause()


async def test_every_gauge_of_six_machines(
    mac: Mac, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "MACHINE_SECONDS", 0.05)
    write_records(tmp_path / "lamps" / "data" / "train.jsonl", records(8))
    mac.become(MACHINES[0], {"macmon": "missing"})
    app = MlxftApp(tmp_path / "lamps", RECIPE, None, QuietSession(tmp_path / "lamps"))
    async with app.run_test(size=(200, 60)) as pilot:
        await settled(pilot)
        await pilot.press("3")
        for machine in MACHINES:
            mac.become(machine, {"macmon": "missing"})
            await until_shown(pilot, app, *SEEN[machine.name])
        silent = dict.fromkeys(("ioreg", "vm_stat", "sysctl", "notifyutil", "macmon"), "missing")
        mac.become(MACHINES[1], silent)  # type: ignore[arg-type]
        await until_shown(pilot, app, "mem —", "swap —")
        for key in "12345":
            await pilot.press(key)
