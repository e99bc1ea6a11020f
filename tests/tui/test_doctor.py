"""The doctor in the app: its findings, its self-test, and the report to copy."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from mlxft import recipe as recipes
from mlxft.doctor import mac
from mlxft.doctor.checkup import Report, Section
from mlxft.doctor.device import Device
from mlxft.doctor.self_test.self_test import PartResult, SelfTest
from mlxft.doctor.self_test.watch import Watch
from mlxft.doctor.terminal import Terminal, terminal_findings
from mlxft.self_test.checks import Check
from mlxft_tui.app import MlxftApp
from support import macs
from support.session import RECIPE, SIZES, QuietSession, screen_text, settled, words

SLOW = Check("small files", "differs", "812 ms until one is on the disk", "Use a local disk.")
RIGHT = Check("attention, heads of 64", "passed", "off by 4.7e-07 from float32 on the CPU")

FOUND = SelfTest(
    version="0.1.0",
    system="Darwin 23.5.0 arm64",
    device=Device("Apple M1", "metal", memory_limit=5_726_623_061),
    seconds=141.0,
    parts=[PartResult("Disk", [SLOW]), PartResult("Gradients", [RIGHT])],
    steps={},
    gradients=[],
    products=[],
    peaks=[],
    errors=[],
)


class PatientSession(QuietSession):
    """A session on a small Mac whose self-test ends when it may."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.may_end = threading.Event()

    def examined(self, terminal: Terminal) -> Report:
        answers = macs.M1_8GB
        sections = [
            Section("Versions", mac.system_findings(answers, "arm64")),
            Section("Machine", mac.machine_findings(answers, True)),
            Section(
                "Terminal", terminal_findings(Terminal({"TERM": "xterm-256color"}, terminal.size))
            ),
        ]
        return Report("0.1.0", sections)

    def self_tested(self, watch: Watch) -> tuple[SelfTest, Path]:
        watch.begin("Disk", 2, 9)
        watch.measuring("small files")
        watch.measuring("small files", SLOW)
        while not self.may_end.wait(0.01):
            watch.check()
        return FOUND, self.folder / "mlxft-self-test.json"


@pytest.fixture
def app(folder: Path) -> MlxftApp:
    return MlxftApp(folder, RECIPE, None, PatientSession(folder))


def patient(app: MlxftApp) -> PatientSession:
    assert isinstance(app.session, PatientSession)
    return app.session


async def opened(pilot: Pilot[None]) -> None:
    await settled(pilot)
    await pilot.press("exclamation_mark")
    await settled(pilot, "doctor")


async def until(pilot: Pilot[None], text: str) -> None:
    async with asyncio.timeout(20):
        while text not in words(pilot.app):  # type: ignore[arg-type]
            await pilot.pause()


class TestLooks:
    @pytest.mark.parametrize("size", SIZES)
    def test_findings_and_a_self_test_that_has_ended(
        self, app: MlxftApp, snap_compare: Any, size: tuple[int, int]
    ) -> None:
        async def before(pilot: Pilot[None]) -> None:
            await opened(pilot)
            await pilot.press("s")
            patient(app).may_end.set()
            await settled(pilot, "self-test")

        assert snap_compare(app, terminal_size=size, run_before=before)


class TestSelfTest:
    async def test_its_progress_and_what_differs_are_shown_while_it_runs(
        self, app: MlxftApp
    ) -> None:
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            await opened(pilot)
            assert "battery" in words(app)
            await pilot.press("s")
            await until(pilot, "Use a local disk")
            assert "Disk (2 of 9): small files 0 passed, 1 differ" in words(app)
            assert "s self-test" not in screen_text(app)
            await pilot.press("escape")
            patient(app).may_end.set()
            await until(pilot, "The self-test has ended; !")

    async def test_it_can_be_cancelled_and_a_quit_asks_first(self, app: MlxftApp) -> None:
        async with app.run_test(size=(120, 40)) as pilot:
            await opened(pilot)
            await pilot.press("s", "escape", "q")
            assert "The self-test is running; quitting cancels it" in words(app)
            await pilot.press("n", "exclamation_mark", "c")
            await until(pilot, "nothing of it is left")

    async def test_a_quit_ends_it(self, app: MlxftApp) -> None:
        async with app.run_test(size=(120, 40)) as pilot:
            await opened(pilot)
            await pilot.press("s")

    async def test_report_and_table_are_copied(self, app: MlxftApp) -> None:
        async with app.run_test(size=(120, 40)) as pilot:
            await opened(pilot)
            patient(app).may_end.set()
            await pilot.press("s")
            await settled(pilot, "self-test")
            await pilot.press("y")
            lines = app.clipboard.splitlines()
            assert "  warning  power              battery" in lines
            assert "  differs  small files: 812 ms until one is on the disk" in lines


class TestMachines:
    async def test_those_of_the_recipes_hosts_are_shown_and_not_copied(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        tools = tmp_path / "tools"
        tools.mkdir()
        (tools / "ssh").write_text("#!/bin/sh\necho 'Permission denied' >&2; exit 255\n")
        (tools / "ssh").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
        recipe = recipes.replace(RECIPE, "hosts", "localhost, mac-b@10.0.0.2")
        app = MlxftApp(folder, recipe, None, PatientSession(folder))
        async with app.run_test(size=(120, 60)) as pilot:
            await opened(pilot)
            await until(pilot, "ssh-copy-id mac-b")
            await pilot.press("y")
            await pilot.pause()
            assert "battery" in app.clipboard
            assert "mac-b" not in app.clipboard
