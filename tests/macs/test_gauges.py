"""Every gauge and finding on Macs made of captures, whose tools also fail, hang and mislead."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mlxft.doctor.checkup import checkup
from mlxft.doctor.device import DeviceProbe
from mlxft.doctor.finding import NOT_KNOWN
from mlxft.doctor.self_test.tools import MAC_TOOLS, answers_of_tools, tools_here
from mlxft.doctor.terminal import Terminal
from mlxft.self_test.checks import tool_checks
from mlxft.telemetry.apple import outputs
from mlxft.telemetry.limits import machine_memory
from mlxft.telemetry.sample import Sample
from mlxft.telemetry.sampler import Sampler
from support import macs
from support.macs import MACHINES, Mac, Machine, Mode

METAL = 'print(\'{"device": "Apple GPU", "kind": "metal", "memory_limit": 9000000000}\')'
FROM_TOOLS = (
    "memory_used",
    "memory_wired",
    "memory_compressed",
    "memory_pressure",
    "memory_total",
    "swap_used",
    "gpu_name",
    "gpu_share",
    "gpu_memory_used",
    "thermal_level",
)


@pytest.fixture
def mac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mac:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return Mac(tmp_path / "mac", monkeypatch)


def sampled() -> Sample:
    sampler = Sampler()
    try:
        return sampler.sample()
    finally:
        sampler.close()


@pytest.mark.parametrize("machine", MACHINES, ids=lambda each: each.name)
def test_gauges_limits_findings_and_tools(machine: Machine, mac: Mac, tmp_path: Path) -> None:
    mac.become(machine, {"macmon": "missing"})
    sample = sampled()
    assert {name: getattr(sample, name) for name in machine.expected} == machine.expected
    assert sample.gpu_power is None
    limits = machine_memory()
    assert limits.kind == "metal"
    assert 0.6 * limits.total < limits.limit <= 1.0 * limits.total
    probe = DeviceProbe([sys.executable, "-S", "-c", METAL])
    report = checkup(tmp_path, Terminal(), probe=probe)
    found = {each.subject: each for each in report.findings}
    assert not report.has_problem or machine.answers is macs.M4_MAX_64GB
    unknown = {each.subject for each in report.findings if each.seen == NOT_KNOWN}
    assert unknown <= ({"heat"} if machine.answers is macs.M5_PRO_48GB else set())
    assert found["processor"].seen.endswith("Python is native")
    assert all(each.remedy for each in report.findings if each.verdict in ("warning", "problem"))
    differing = [name for name, fine in answers_of_tools(MAC_TOOLS, outputs).items() if not fine]
    assert differing == (["notifyutil"] if machine.answers is macs.M5_PRO_48GB else [])
    assert macs.USER not in repr(report)


TOOLS: dict[str, tuple[str, ...]] = {
    "ioreg": ("gpu_name", "gpu_share", "gpu_memory_used"),
    "vm_stat": ("memory_used", "memory_wired", "memory_compressed"),
    "sysctl": ("memory_total", "memory_pressure", "swap_used"),
    "notifyutil": ("thermal_level",),
}
"""The gauges that each tool gives."""


class TestToolsThatDoNotAnswer:
    @pytest.mark.parametrize("mode", ["wrong", "failing", "missing"])
    def test_only_their_gauges_are_empty(self, mode: Mode, mac: Mac) -> None:
        for tool, gauges in TOOLS.items():
            mac.become(macs.MACHINES[1], {tool: mode, "macmon": "missing"})
            sample = sampled()
            empty = {name for name in FROM_TOOLS if getattr(sample, name) is None}
            assert empty == set(gauges)

    @pytest.mark.parametrize("mode", ["wrong", "failing", "missing"])
    def test_without_any_the_doctor_and_the_self_test_say_so(
        self, mode: Mode, mac: Mac, tmp_path: Path
    ) -> None:
        programs = ("ioreg", "vm_stat", "sysctl", "notifyutil", "pmset", "sw_vers")
        modes: dict[str, Mode] = dict.fromkeys((*programs, "system_profiler"), mode)
        mac.become(macs.MACHINES[0], modes)
        probe = DeviceProbe([sys.executable, "-S", "-c", METAL])
        report = checkup(tmp_path, Terminal(), probe=probe)
        assert not report.has_problem
        uses = {each.name: each.use for each in tools_here("metal")}
        found = tool_checks(answers_of_tools(MAC_TOOLS, outputs), uses)
        assert {each.outcome for each in found} == {"differs"}
        assert all(each.remedy for each in found)
        assert machine_memory().total == 0


def test_macmon_adds_power_clock_and_temperature(mac: Mac) -> None:
    mac.become(macs.MACHINES[2])
    sampler = Sampler()
    try:
        sample = sampler.sample()
        while sample.gpu_power is None:
            sample = sampler.sample()
    finally:
        sampler.close()
    assert (sample.gpu_power, sample.gpu_frequency_mhz) == (24.87, 1578.0)
    assert (sample.gpu_temperature, sample.gpu_share) == (58.5, 0.29)
