"""The process of notifications beside a run, as its engine starts it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from mlxft.storage.paths import notifications_file
from support.journal import RUN_RECIPE, trained_run, write_run
from support.project import eventually


@pytest.fixture
def notifier(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """It runs a command that notes its number and never ends."""
    notifications_file().parent.mkdir()
    script = f"echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; sleep 600 & wait"
    notifications_file().write_text(f'command = ["/bin/sh", "-c", "{script}"]\n')
    run = write_run(tmp_path / "runs", RUN_RECIPE, trained_run(RUN_RECIPE, 1))
    command = [sys.executable, "-P", "-m", "mlxft.watching", "notify", str(run.path), "0"]
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE) as process:
        yield process
        process.kill()


def of_command(folder: Path) -> list[psutil.Process]:
    """The command's process and its child."""
    number = int(eventually(lambda: (file := folder / "pid").exists() and file.read_text()))
    command = psutil.Process(number)
    eventually(command.children)
    return [command, *command.children()]


def test_a_killed_one_takes_the_users_command_along(
    notifier: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    command = of_command(tmp_path)
    notifier.kill()
    assert psutil.wait_procs(command, 30)[1] == []


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="Linux schedules sessions")
def test_has_a_low_priority_beside_other_sessions(
    notifier: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    of_command(tmp_path)
    group = Path(f"/proc/{notifier.pid}/autogroup").read_text()
    assert group.split()[-1] == "10"
    assert psutil.Process(notifier.pid).nice() >= 10
