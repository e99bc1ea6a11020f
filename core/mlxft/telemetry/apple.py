"""Read an Apple GPU and its unified memory from the output of macOS tools; never as root."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from mlxft.telemetry.apple_text import (
    Kernel,
    Macmon,
    parse_ioreg,
    parse_macmon,
    parse_sysctl,
    parse_thermal_level,
    parse_vm_stat,
)
from mlxft.telemetry.sample import Figures

TIMEOUT: Final = 2.0
"""Seconds that all commands of one sample may take together."""

_GRACE: Final = 0.1
"""Seconds to collect output that a command printed while waiting for an earlier one."""

Command = tuple[str, ...]
Outputs = Callable[[Sequence[Command]], list[str]]

IOREG: Final[Command] = ("/usr/sbin/ioreg", "-r", "-d", "1", "-w", "0", "-c", "IOAccelerator")
VM_STAT: Final[Command] = ("/usr/bin/vm_stat",)
SYSCTL: Final[Command] = (
    "/usr/sbin/sysctl",
    "-i",
    "hw.memsize",
    "vm.swapusage",
    "kern.memorystatus_vm_pressure_level",
    "iogpu.wired_limit_mb",
)
THERMAL: Final[Command] = (
    "/usr/bin/notifyutil",
    "-g",
    "com.apple.system.thermalpressurelevel",
)


def outputs(commands: Sequence[Command]) -> list[str]:
    """The output of commands run in parallel; empty for one that fails or is too slow."""
    deadline = time.monotonic() + TIMEOUT
    return [_output(process, deadline) for process in [_started(each) for each in commands]]


def _started(command: Command) -> subprocess.Popen[bytes] | None:
    try:
        return subprocess.Popen(
            [_program(command[0]), *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return None


def _program(path: str) -> str:
    """The system's program, or one of its name in the folder that ``MLXFT_TOOLS`` names.

    Such a folder may answer with what another Mac has printed.
    """
    own = os.environ.get("MLXFT_TOOLS")
    return os.path.join(own, os.path.basename(path)) if own else path


def _output(process: subprocess.Popen[bytes] | None, deadline: float) -> str:
    if process is None:
        return ""
    with process:
        try:
            printed, _ = process.communicate(timeout=max(_GRACE, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            return ""
    return printed.decode(errors="replace")


def read_kernel(run: Outputs = outputs) -> Kernel:
    """Memory, swap and the GPU's limit from ``sysctl``."""
    (printed,) = run([SYSCTL])
    return parse_sysctl(printed)


class Apple:
    """GPU utilization and memory; with macmon also power, clock and temperature."""

    def __init__(self, run: Outputs = outputs) -> None:
        self._run = run
        self._macmon = MacmonPipe()

    def read(self) -> Figures:
        """The current figures."""
        ioreg, vm_stat, sysctl, thermal = self._run([IOREG, VM_STAT, SYSCTL, THERMAL])
        gpu, memory, kernel = parse_ioreg(ioreg), parse_vm_stat(vm_stat), parse_sysctl(sysctl)
        macmon = self._macmon.latest()
        return Figures(
            memory_used=memory.used,
            memory_total=kernel.memory_size,
            memory_wired=memory.wired,
            memory_compressed=memory.compressed,
            memory_pressure=kernel.pressure,
            swap_used=kernel.swap_used,
            gpu_name=gpu.name,
            gpu_share=macmon.gpu_share if gpu.share is None else gpu.share,
            gpu_memory_used=gpu.allocated,
            gpu_memory_total=kernel.wired_limit,
            gpu_power=macmon.gpu_power,
            gpu_frequency_mhz=macmon.gpu_frequency_mhz,
            gpu_temperature=macmon.gpu_temperature,
            thermal_level=parse_thermal_level(thermal),
        )

    def close(self) -> None:
        """Stop macmon."""
        self._macmon.close()


class MacmonPipe:
    """A ``macmon pipe`` that keeps running, so that a sample never waits for its interval.

    macmon exits by itself when its reader is gone, even if that was killed.
    """

    STALE: Final = 10.0
    """Seconds after which a line is outdated."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._line, self._time = "", 0.0

    def latest(self) -> Macmon:
        """The newest line, parsed; empty before the first, without macmon, or if it hangs."""
        if self._process is None:
            self._start()
        fresh = time.monotonic() - self._time < self.STALE
        return parse_macmon(self._line) if fresh and self._line else Macmon()

    def close(self) -> None:
        """Stop the child."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _start(self) -> None:
        path = shutil.which("macmon")
        if path is None:
            return
        try:
            self._process = subprocess.Popen(
                [path, "pipe", "-i", "1000"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                errors="replace",
            )
        except OSError:
            return
        threading.Thread(target=self._follow, args=[self._process], daemon=True).start()

    def _follow(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self._line, self._time = line, time.monotonic()
