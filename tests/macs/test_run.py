"""A run and the self-test's parts of a Mac, by real engine processes on Macs made of captures."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mlxft.compute.training.expected_memory import Expected, refuse_swap
from mlxft.doctor.self_test.plan import Plan, RunPlan
from mlxft.doctor.self_test.self_test import FILE
from mlxft.doctor.self_test.tools import MAC_TOOLS
from mlxft.errors import RunError
from mlxft.memory.calibration import remembered_peaks
from mlxft.recipe import Recipe
from mlxft.runs import events as ev
from mlxft.telemetry.apple import VM_STAT
from mlxft_tui.cli.self_test import run_self_test
from support import macs
from support.macs import MACHINES, Mac, Machine
from support.project import Project, events_of, eventually, make_project

SITE = Path(__file__).parents[1] / "support" / "mac_site"


@pytest.fixture(autouse=True)
def engines_on_macs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engine processes believe that they are on a Mac, once they have imported all they need."""
    monkeypatch.setenv("PYTHONPATH", f"{SITE}:{os.environ.get('PYTHONPATH', '')}")


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = make_project(tmp_path / "project")
    yield project
    project.end_engines()


TINY = Plan(
    runs=RunPlan(steps=100, save_every=5, breaks=["torn"], demo_steps=3, demo_tokens=48),
    disk_bytes=1_000_000,
    keys=2,
)


def test_the_whole_self_test(mac: Mac, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a tiny plan on an M2 Pro, whose GPU is a CPU: its table, its file, its peaks."""
    mac.become(MACHINES[1], {"macmon": "missing"})
    project = tmp_path / "planted-project"
    project.mkdir()
    run_self_test(project, None, as_json=True, plan=TINY)
    found = json.loads((project / FILE).read_text())
    printed = capsys.readouterr()
    assert json.loads(printed.out) == found
    assert "Resume (6 of 9): a run without a break" in printed.err
    titles = ["Tools", "Disk", "App", "Training", "Resume", "Calibration"]
    assert [each["title"] for each in found["parts"]] == titles
    outcomes = {
        check["subject"]: check["outcome"] for part in found["parts"] for check in part["checks"]
    }
    # Estimate and times depend on the machine; what is computed and read doesn't.
    right = (
        *(each.name for each in MAC_TOOLS),
        "random model in place of the demo: loss",
        "the process's memory",
        "memory in use",
        "caffeinate",
        "kill -9, torn checkpoint and resume",
        "kill -9, torn checkpoint and resume: checkpoints",
    )
    seen = {check["subject"]: check["seen"] for part in found["parts"] for check in part["checks"]}
    wrong = {each: seen[each] for each in right if outcomes[each] != "passed"}
    assert not wrong
    on = "a display is on; AGX_RELAX_CDM_CTXSTORE_TIMEOUT is not set"
    assert seen["GPU watchdog"].startswith(on)
    (arguments,) = mac.kept_awake
    assert arguments.startswith("-i -s -w ")
    assert str(tmp_path) not in json.dumps(found)
    kept = ["self-test random model in place of the demo"]
    assert [each.run for each in remembered_peaks()] == kept
    assert [each["run"] for each in found["peaks"]] == kept
    assert [each.name for each in project.iterdir()] == [FILE]


class TestAFullMac:
    """An 8 GB M1 whose other programs leave 53 MB."""

    NEEDED = Expected(peak=2 * 10**9, total=3 * 10**9, is_known=True)

    @pytest.fixture(autouse=True)
    def _full(self, mac: Mac) -> None:
        answers = {**macs.M1_8GB, VM_STAT: macs.vm_stat(400_000, 110_000, 12_000, 0)}
        mac.become(Machine("a full M1", answers), {"macmon": "missing"})

    def test_a_run_that_would_swap_is_held_back_and_says_what_to_close(self) -> None:
        with pytest.raises(RunError, match=r"close Google Chrome \(2.83 GB\), Notes"):
            refuse_swap(Recipe(), self.NEEDED)

    def test_guesses_and_recipes_that_may_swap_hold_nothing_back(self) -> None:
        refuse_swap(Recipe(may_swap=True), self.NEEDED)
        refuse_swap(Recipe(), replace(self.NEEDED, is_known=False))
        refuse_swap(Recipe(), replace(self.NEEDED, total=20_000_000))


def test_tools_that_never_answer_hold_no_step_up(mac: Mac, project: Project) -> None:
    """Each sample waits for all it may; steps are trained meanwhile."""
    mac.become(
        MACHINES[1],
        {"ioreg": "slow", "notifyutil": "wrong", "pmset": "failing", "macmon": "missing"},
    )
    run = project.start("prevent_sleep=false")

    def sampled_while_training() -> list[ev.AnyEvent]:
        found = events_of(run)
        steps = [at for at, each in enumerate(found) if isinstance(each, ev.StepFinished)]
        samples = [at for at, each in enumerate(found) if isinstance(each, ev.MachineSampled)]
        return found if steps and any(at > steps[0] for at in samples[1:]) else []

    found = eventually(sampled_while_training, 120)
    samples = [at for at, each in enumerate(found) if isinstance(each, ev.MachineSampled)]
    last = found[samples[-1]]
    assert isinstance(last, ev.MachineSampled)
    assert (last.sample.gpu_share, last.sample.memory_total) == (None, 32 * 1024**3)
    assert last.sample.thermal_level is None
    # Between the last two samples one was waited for: had steps waited too, there would be none.
    between = found[samples[-2] : samples[-1]]
    assert sum(isinstance(each, ev.StepFinished) for each in between) > 1
