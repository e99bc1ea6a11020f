"""Samples of the machine: any source may fail."""

import stat
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from mlxft.telemetry import apple
from mlxft.telemetry.apple import IOREG, SYSCTL, THERMAL, VM_STAT, Apple, Command, outputs
from mlxft.telemetry.host import Host, OtherWork, resident_memory
from mlxft.telemetry.limits import (
    GIB,
    apple_limits,
    container_limit,
    default_working_set,
    machine_memory,
)
from mlxft.telemetry.nvidia import Nvidia
from mlxft.telemetry.sample import Figures, Sample
from mlxft.telemetry.sampler import Sampler

SAMPLES = Path(__file__).parent / "samples"
PRINTED = {
    IOREG: "ioreg.txt",
    VM_STAT: "vm_stat.txt",
    SYSCTL: "sysctl.txt",
    THERMAL: "notifyutil.txt",
}


def a_mac(commands: list[Command] | tuple[Command, ...]) -> list[str]:
    """The tools' output on an 18 GB M3 Pro."""
    return [(SAMPLES / PRINTED[each]).read_text() for each in commands]


class Broken:
    def read(self) -> Figures:
        raise RuntimeError("array not large enough")


class Known:
    def __init__(self, **figures: object) -> None:
        self.figures = Figures(**figures)  # type: ignore[typeddict-item]
        self.closed = False

    def read(self) -> Figures:
        return self.figures

    def close(self) -> None:
        self.closed = True


class TestSampler:
    """Figures or None, never an exception."""

    def test_this_machine(self) -> None:
        sampler = Sampler()
        sampler.sample()
        found = sampler.sample()
        sampler.close()
        assert found.time == pytest.approx(time.time(), abs=60)
        assert found.memory_total is not None
        assert found.memory_used is not None
        assert 0 < found.memory_used < found.memory_total
        assert found.cpu_share is None or 0 <= found.cpu_share <= 1

    def test_a_failing_source_does_not_affect_others(self) -> None:
        sampler = Sampler(sources=[Broken(), Known(cpu_share=0.5)], clock=lambda: 7.0)
        assert sampler.sample() == Sample(time=7.0, cpu_share=0.5)

    def test_without_any_source_every_figure_is_missing(self) -> None:
        assert Sampler(sources=[], clock=lambda: 7.0).sample() == Sample(time=7.0)

    def test_a_later_source_wins(self) -> None:
        sampler = Sampler(sources=[Known(memory_used=1, swap_used=2), Known(memory_used=3)])
        assert (sampler.sample().memory_used, sampler.sample().swap_used) == (3, 2)

    def test_closing_closes_the_sources(self) -> None:
        source = Known()
        Sampler(sources=[source, Broken()]).close()
        assert source.closed


class TestHost:
    def test_cpu_share_needs_two_samples(self) -> None:
        assert Host().read()["cpu_share"] is None

    def test_free_space_of_the_working_disk(self, tmp_path: Path) -> None:
        free = Host(str(tmp_path)).read()["disk_free"]
        assert free is not None
        assert free > 0
        assert "disk_free" not in Host(str(tmp_path / "gone")).read()

    def test_with_and_without_a_battery(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import psutil

        battery = types.SimpleNamespace(percent=83, power_plugged=False)
        monkeypatch.setattr(psutil, "sensors_battery", lambda: battery, raising=False)
        found = Host().read()
        assert (found["battery_share"], found["on_battery"]) == (0.83, True)
        monkeypatch.setattr(psutil, "sensors_battery", lambda: None, raising=False)
        assert "battery_share" not in Host().read()

    def test_a_failing_battery_does_not_affect_others(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import psutil

        def fail() -> None:
            raise RuntimeError("array not large enough")

        monkeypatch.setattr(psutil, "sensors_battery", fail, raising=False)
        assert "cpu_share" in Host().read()

    def test_failing_calls_do_not_affect_others(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import psutil

        def fail() -> None:
            raise RuntimeError("array not large enough")

        for name in ("cpu_times", "virtual_memory"):
            monkeypatch.setattr(psutil, name, fail)
        assert list(Host().read()) == ["disk_free"] or "battery_share" in Host().read()

    def test_this_process_has_a_resident_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import psutil

        assert (resident_memory() or 0) > 1_000_000

        def fail(*_: object) -> None:
            raise psutil.AccessDenied

        monkeypatch.setattr(psutil, "Process", fail)
        assert resident_memory() is None

    def test_memory_is_not_read_with_psutil_on_macos(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "darwin")
        assert "memory_used" not in Host().read()


class TestApple:
    """A Mac's figures from its tools' output."""

    def test_figures_of_an_m3_pro(self) -> None:
        found = Apple(a_mac).read()
        assert found["gpu_name"] == "Apple M3 Pro"
        assert found["gpu_share"] == 0.92
        assert found["gpu_memory_used"] == 9_000_000_000
        assert found["memory_wired"] == 100_000 * 16384
        assert found["memory_compressed"] == 40_000 * 16384
        assert found["memory_pressure"] == "warning"
        assert found["thermal_level"] == 2
        assert found["gpu_power"] is None

    def test_tools_that_print_nothing_give_no_figures(self) -> None:
        found = Apple(lambda commands: [""] * len(commands)).read()
        assert set(found.values()) == {None}

    def test_macmon_adds_power_frequency_and_temperature(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """macmon keeps running; a sample takes its newest line."""
        line = (SAMPLES / "macmon_0.8.json").read_text().strip()
        program = tmp_path / "macmon"
        program.write_text(f"#!/bin/sh\nwhile :; do echo '{line}'; sleep 0.01; done\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
        source = Apple(a_mac)
        deadline = time.monotonic() + 20
        while source.read()["gpu_power"] is None and time.monotonic() < deadline:
            pass
        found = source.read()
        source.close()
        assert found["gpu_power"] == 18.75
        assert found["gpu_frequency_mhz"] == 1380.0
        assert found["gpu_share"] == 0.92


class TestNvidia:
    """An NVIDIA GPU through a fake NVML."""

    @staticmethod
    def nvml(**refused: bool) -> types.ModuleType:
        module = types.ModuleType("pynvml")

        class NVMLError(Exception):
            pass

        def asked(name: str, answer: object) -> Callable[..., object]:
            def ask(*_: object, **__: object) -> object:
                if refused.get(name):
                    raise NVMLError(name)
                return answer

            return ask

        answers: dict[str, object] = {
            "nvmlInit": None,
            "nvmlShutdown": None,
            "nvmlDeviceGetHandleByIndex": "by index",
            "nvmlDeviceGetHandleByUUID": "by uuid",
            "nvmlDeviceGetName": b"NVIDIA H200",
            "nvmlDeviceGetMemoryInfo": types.SimpleNamespace(used=10, total=100),
            "nvmlDeviceGetUtilizationRates": types.SimpleNamespace(gpu=87),
            "nvmlDeviceGetPowerUsage": 350_500,
            "nvmlDeviceGetClockInfo": 1980,
            "nvmlDeviceGetTemperature": 61,
        }
        for name, answer in answers.items():
            setattr(module, name, asked(name, answer))
        for name in ("nvmlMemory_v2", "NVML_CLOCK_SM", "NVML_TEMPERATURE_GPU"):
            setattr(module, name, 0)
        module.NVMLError = NVMLError  # type: ignore[attr-defined]
        return module

    def test_every_figure_in_its_unit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pynvml", self.nvml())
        assert Nvidia().read() == Figures(
            gpu_name="NVIDIA H200",
            gpu_share=0.87,
            gpu_memory_used=10,
            gpu_memory_total=100,
            gpu_power=350.5,
            gpu_frequency_mhz=1980,
            gpu_temperature=61,
        )

    def test_a_figure_the_driver_refuses_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pynvml", self.nvml(nvmlDeviceGetPowerUsage=True))
        found = Nvidia().read()
        assert found["gpu_power"] is None
        assert found["gpu_share"] == 0.87

    def test_without_a_driver_the_host_is_still_sampled(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "pynvml", self.nvml(nvmlInit=True))
        found = Sampler(sources=[Host(), Nvidia()]).sample()
        assert found.gpu_share is None
        assert found.memory_total is not None

    @pytest.mark.parametrize(
        ("visible", "uuid", "handle"),
        [
            ("", None, "by index"),
            ("3,1", None, "by index"),
            ("GPU-1a", None, "by uuid"),
            ("", "1a", "by uuid"),
        ],
    )
    def test_the_gpu_that_mlx_uses(
        self, visible: str, uuid: str | None, handle: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        module = self.nvml()
        asked: list[object] = []
        module.nvmlDeviceGetName = lambda device: asked.append(device) or "GPU"  # type: ignore[attr-defined, func-returns-value]
        monkeypatch.setitem(sys.modules, "pynvml", module)
        Nvidia(uuid).read()
        assert asked == [handle]


class TestOutputs:
    """Commands run in parallel and can't hang."""

    def test_outputs_are_in_order(self) -> None:
        assert outputs([("/bin/echo", "one"), ("/bin/echo", "two")]) == ["one\n", "two\n"]

    def test_a_missing_command_is_empty(self) -> None:
        assert outputs([("/no/such/tool",), ("/bin/echo", "here")]) == ["", "here\n"]

    def test_a_hanging_command_is_killed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(apple, "TIMEOUT", 0.1)
        assert outputs([("/bin/sleep", "600"), ("/bin/echo", "here")]) == ["", "here\n"]


class TestLimits:
    """The machine's memory, without MLX."""

    def test_this_machine(self) -> None:
        found = machine_memory()
        assert found.total > 0
        assert found.limit <= found.total
        assert found.available is None or found.available <= found.total

    def test_a_mac_without_a_wired_limit_has_metals_default(self) -> None:
        found = apple_limits(a_mac)
        assert found.kind == "metal"
        assert found.total == 18 * GIB
        assert found.recommended == default_working_set(18 * GIB)
        assert found.limit < found.total
        assert found.available is not None

    @pytest.mark.parametrize(
        ("total", "reported"),
        [
            (8 * GIB, 5.727e9),
            (18 * GIB, 14.302e9),
            (32 * GIB, 26.80e9),
            (36 * GIB, 30.15e9),
            (64 * GIB, 55.66e9),
        ],
    )
    def test_metals_default_is_close_to_what_devices_report(
        self, total: int, reported: float
    ) -> None:
        assert default_working_set(total) == pytest.approx(reported, rel=0.02)

    def test_a_containers_limit(self, tmp_path: Path) -> None:
        file = tmp_path / "memory.max"
        file.write_text("1073741824\n")
        assert container_limit([tmp_path / "absent", file]) == GIB
        file.write_text("max\n")
        assert container_limit([file]) is None


def test_importing_the_sampler_loads_neither_psutil_nor_nvml() -> None:
    """The app imports it before its first paint."""
    code = "import sys, mlxft.telemetry.sampler; print({'psutil', 'pynvml'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


class Times(NamedTuple):
    """Seconds of all processors."""

    user: float
    idle: float


class TestOtherWork:
    def test_it_is_what_is_busy_besides_this_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        times = iter([Times(10.0, 90.0), Times(18.0, 92.0)])
        own = iter([1.0, 4.0])
        monkeypatch.setattr("psutil.cpu_times", lambda: next(times))
        monkeypatch.setattr(time, "process_time", lambda: next(own))
        assert OtherWork().share() == pytest.approx(0.5)
