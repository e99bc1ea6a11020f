"""What the tools of some Macs print, cut to the lines that are read. Names in it are made up."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil  # noqa: F401 - that of this system, before it passes for another
import pytest

from mlxft.doctor import mac
from mlxft.doctor.self_test.tools import ASSERTIONS
from mlxft.telemetry import apple
from mlxft.telemetry.apple import IOREG, SYSCTL, THERMAL, VM_STAT, Command
from mlxft.telemetry.programs import PROGRAMS

USER, HOST, SERIAL = "jane.doe", "Janes-MacBook-Pro", "C02XK1ZZJGH5"


def vm_stat(anonymous: int, wired: int, compressor: int, purgeable: int) -> str:
    """What ``vm_stat`` prints, from numbers of pages of 16 KB."""
    return (
        "Mach Virtual Memory Statistics: (page size of 16384 bytes)\n"
        f"Pages wired down:                     {wired}.\n"
        f"Pages purgeable:                      {purgeable}.\n"
        '"Translation faults":             5460478806.\n'
        f"Anonymous pages:                      {anonymous}.\n"
        f"Pages occupied by compressor:         {compressor}.\n"
    )


def _ioreg(model: str, busy: int, allocated: int) -> str:
    return (
        "+-o AGXAcceleratorG13X  <class AGXAcceleratorG13X, id 0x1000009a1, registered>\n    {\n"
        f'      "model" = "{model}"\n      "IOPlatformSerialNumber" = "{SERIAL}"\n'
        '      "PerformanceStatistics" = {"In use system memory (driver)"=0,'
        f'"Alloc system memory"={allocated},"Renderer Utilization %"=0,'
        f'"Device Utilization %"={busy},"In use system memory"=768850}}\n    }}\n'
    )


def _sysctl(memory: int, swap: str, pressure: int, wired_limit: int) -> str:
    return (
        f"hw.memsize: {memory}\nvm.swapusage: total = 12800.00M  used = {swap}  free = 852.56M"
        f"  (encrypted)\nkern.memorystatus_vm_pressure_level: {pressure}\n"
        f"iogpu.wired_limit_mb: {wired_limit}\n"
    )


def _settings(sleep: str, display: int, mode: str) -> str:
    return (
        "System-wide power settings:\nCurrently in use:\n standby              1\n"
        f" {mode}\n hibernatefile        /var/vm/sleepimage\n displaysleep         {display}\n"
        f" womp                 0\n sleep                {sleep}\n"
    )


def _displays(*asleep: bool) -> str:
    screens = [
        {
            "_name": f"{HOST} screen",
            "_spdisplays_display-serial-number": SERIAL,
            "spdisplays_online": "spdisplays_yes",
            "spdisplays_asleep": f"spdisplays_{'yes' if each else 'no'}",
        }
        for each in asleep
    ]
    return json.dumps({"SPDisplaysDataType": [{"_name": "GPU", "spdisplays_ndrvs": screens}]})


def _thermal(level: int) -> str:
    return f"com.apple.system.thermalpressurelevel {level}\n"


def _chip(name: str) -> str:
    return f"hw.optional.arm64: 1\nmachdep.cpu.brand_string: {name}\n"


_BATTERY_ID = "-InternalBattery-0 (id=5308515)"

_APP = "/Applications/Google Chrome.app/Contents"

M1_8GB: Mapping[Command, str] = {
    mac.VERSION: "14.5\n",
    mac.CHIP: _chip("Apple M1"),
    SYSCTL: _sysctl(8 * 1024**3, "2140.25M", 2, 0),
    VM_STAT: vm_stat(210_000, 110_000, 120_000, 4_000),
    IOREG: _ioreg("Apple M1", 34, 1_200_000_000),
    THERMAL: _thermal(1),
    mac.BATTERY: f"Now drawing from 'Battery Power'\n {_BATTERY_ID}\t34%; discharging; 5:58 left\n",
    mac.SETTINGS: _settings("1 (sleep prevented by powerd, bluetoothd)", 2, "lowpowermode 1"),
    mac.DISPLAYS: _displays(False),
    PROGRAMS: (
        f"1843200 {_APP}/MacOS/Google Chrome\n 921600 {_APP}/Helpers/chrome_crashpad\n"
        f" 700000 /Users/{USER}/secret-project/bin/server\n"
        f" 420000 /Users/{USER}/Applications/Notes of {USER}.app/Contents/MacOS/Notes\n"
    ),
}
"""Composed in the layout of captures; none of this machine was at hand."""

M3_MAX_128GB: Mapping[Command, str] = {
    mac.VERSION: "26.6.2\n",
    mac.CHIP: _chip("Apple M3 Max"),
    SYSCTL: _sysctl(128 * 1024**3, "0.00M", 1, 0),
    VM_STAT: vm_stat(1_624_916, 221_191, 0, 20_933),
    IOREG: _ioreg("Apple M3 Max", 29, 4_783_898_624),
    THERMAL: _thermal(0),
    mac.BATTERY: f"Now drawing from 'AC Power'\n {_BATTERY_ID}\t100%; charged; 0:00 remaining\n",
    mac.SETTINGS: _settings("10", 10, "powermode 2"),
    mac.DISPLAYS: _displays(True, True),
    PROGRAMS: "12 /sbin/launchd\n",
}

M3_ULTRA_512GB: Mapping[Command, str] = {
    mac.VERSION: "26.3\n",
    mac.CHIP: _chip("Apple M3 Ultra"),
    SYSCTL: _sysctl(512 * 1024**3, "0.00M", 1, 522_000),
    VM_STAT: vm_stat(11_058_419, 1_434_855, 0, 89_568),
    IOREG: _ioreg("Apple M3 Ultra", 0, 400_000_000),
    THERMAL: _thermal(0),
    mac.BATTERY: "Now drawing from 'AC Power'\n",
    mac.SETTINGS: _settings("0", 0, "lowpowermode 0"),
    mac.DISPLAYS: json.dumps({"SPDisplaysDataType": [{"_name": "GPU"}]}),
    PROGRAMS: "12 /sbin/launchd\n",
}

M2_PRO_32GB: Mapping[Command, str] = {
    mac.VERSION: "26.5.1\n",
    mac.CHIP: _chip("Apple M2 Pro"),
    SYSCTL: _sysctl(32 * 1024**3, "0.00M", 1, 0),
    VM_STAT: vm_stat(1_283_025, 129_937, 99_309, 26_929),
    IOREG: _ioreg("Apple M2 Pro", 42, 16_541_990_912),
    THERMAL: _thermal(0),
    mac.BATTERY: "Now drawing from 'AC Power'\n",
    mac.SETTINGS: _settings("1", 10, "lowpowermode 0"),
    mac.DISPLAYS: _displays(False),
    PROGRAMS: "12 /sbin/launchd\n",
}

M4_MAX_64GB: Mapping[Command, str] = {
    mac.VERSION: "15.6\n",
    mac.CHIP: _chip("Apple M4 Max"),
    SYSCTL: _sysctl(64 * 1024**3, "9,46G", 4, 57_000),
    VM_STAT: vm_stat(2_900_000, 700_000, 400_000, 12_000),
    IOREG: _ioreg("Apple M4 Max", 16, 52_967_440_384),
    THERMAL: _thermal(2),
    mac.BATTERY: "Now drawing from 'AC Power'\n",
    mac.SETTINGS: _settings("0", 0, "powermode 0"),
    mac.DISPLAYS: _displays(True),
    PROGRAMS: "12 /sbin/launchd\n",
}
"""Under pressure, and in a locale whose decimal point is a comma."""

M5_PRO_48GB: Mapping[Command, str] = {
    mac.VERSION: "27.2\n",
    mac.CHIP: _chip("Apple M5 Pro"),
    SYSCTL: _sysctl(48 * 1024**3, "0.00M", 1, 40_960),
    VM_STAT: vm_stat(1_600_000, 300_000, 20_000, 9_000),
    IOREG: _ioreg("Apple M5 Pro", 87, 33_285_996_544),
    THERMAL: "com.apple.system.thermalpressurelevel: Failed with code 9\n",
    mac.BATTERY: "Now drawing from 'AC Power'\n",
    mac.SETTINGS: _settings("10", 10, "powermode 0"),
    mac.DISPLAYS: _displays(False),
    PROGRAMS: "12 /sbin/launchd\n",
}

Mode = Literal["right", "slow", "wrong", "failing", "missing"]
"""How a tool answers: as captured, never, with something else, with an error, or not at all."""

MACMON = (
    '{"gpu_active_ratio":0.97,"gpu_freq_mhz":1578,"gpu_power":24.87,'
    '"temp":{"cpu_temp_avg":61.2,"gpu_temp_avg":58.5}}'
)


@dataclass(frozen=True)
class Machine:
    """A Mac by what its tools print, and the gauges that this must give."""

    name: str
    answers: Mapping[Command, str]
    expected: Mapping[str, Any] = field(default_factory=dict)


def _pages(count: int) -> int:
    return 16384 * count


MACHINES = (
    Machine(
        "M1, 8 GB",
        M1_8GB,
        {
            "gpu_name": "Apple M1",
            "gpu_share": 0.34,
            "memory_used": _pages(210_000 - 4_000 + 110_000 + 120_000),
            "swap_used": round(2140.25 * 1024**2),
            "memory_pressure": "warning",
            "thermal_level": 1,
            "gpu_memory_total": None,
        },
    ),
    Machine(
        "M2 Pro, 32 GB",
        M2_PRO_32GB,
        {
            "gpu_share": 0.42,
            "gpu_memory_used": 16_541_990_912,
            "memory_used": _pages(1_283_025 - 26_929 + 129_937 + 99_309),
            "swap_used": 0,
            "thermal_level": 0,
        },
    ),
    Machine("M3 Max, 128 GB", M3_MAX_128GB, {"gpu_share": 0.29, "memory_pressure": "normal"}),
    Machine(
        "M4 Max, 64 GB, comma",
        M4_MAX_64GB,
        {
            "swap_used": round(9.46 * 1024**3),
            "memory_pressure": "critical",
            "gpu_memory_total": 57_000 * 1024**2,
            "thermal_level": 2,
        },
    ),
    Machine(
        "M5 Pro, 48 GB",
        M5_PRO_48GB,
        {"gpu_name": "Apple M5 Pro", "gpu_share": 0.87, "thermal_level": None},
    ),
    Machine(
        "M3 Ultra, 512 GB",
        M3_ULTRA_512GB,
        {"memory_total": 512 * 1024**3, "gpu_memory_total": 522_000 * 1024**2, "gpu_share": 0.0},
    ),
)
"""From the smallest to the largest."""


class Mac:
    """Programs in the place of a Mac's tools, first on the PATH of this process's children."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self._patch = folder, patch
        self._awake = folder / "awake"
        folder.mkdir()
        self._awake.mkdir()
        patch.setenv("MLXFT_TOOLS", f"{folder}/bin")
        patch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")
        patch.setenv("LOGNAME", USER)
        patch.setattr("sys.platform", "darwin")
        patch.setattr("platform.machine", lambda: "arm64")
        patch.setattr("platform.system", lambda: "Darwin")

    def become(
        self, machine: Machine, modes: Mapping[str, Mode] | None = None, *, timeout: float = 9.0
    ) -> None:
        """Answer as this machine from now on; `modes` are those of tools that don't.

        `timeout` is what the tools of a sample get, in seconds: much, since a test must not depend
        on speed, or little where one never answers.
        """
        self._patch.setattr(apple, "TIMEOUT", timeout)
        modes = modes or {}
        by_program: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for command, text in machine.answers.items():
            by_program[Path(command[0]).name].append((" ".join(command[1:]), text))
        new = self.folder / "new"
        new.mkdir()
        for program, answers in by_program.items():
            if (mode := modes.get(program, "right")) != "missing":
                _write(new / program, _script(new, program, answers, mode, self._awake))
        _write(new / "caffeinate", _CAFFEINATE.format(awake=shlex.quote(str(self._awake))))
        if modes.get("macmon") != "missing":
            _write(new / "macmon", f"while echo '{MACMON}'; do sleep 0.1; done\n")
        shutil.rmtree(self.folder / "bin", ignore_errors=True)
        new.rename(self.folder / "bin")

    @property
    def kept_awake(self) -> list[str]:
        """The arguments of each caffeinate so far."""
        return sorted(each.read_text().strip() for each in self._awake.iterdir())


_CAFFEINATE = """\
echo "$@" > {awake}/$$
for last in "$@"; do :; done
while kill -0 "$last" 2>/dev/null; do sleep 0.05; done
"""
"""As ``caffeinate -w`` does, it ends after the process that it is given."""

_ASSERTIONS = """\
echo 'Assertion status system-wide:'
for file in {awake}/*; do
  pid=$(basename "$file")
  if kill -0 "$pid" 2>/dev/null; then
    echo "   pid $pid(caffeinate): [0x000000ba00018282] 00:00:01 PreventUserIdleSystemSleep named"
  fi
done
"""


def _script(
    folder: Path, program: str, answers: list[tuple[str, str]], mode: Mode, awake: Path
) -> str:
    """The text of a program that answers each of its command lines."""
    if mode == "slow":
        return "exec sleep 600\n"
    if mode == "failing":
        return "echo 'command failed' >&2\nexit 1\n"
    if mode == "wrong":
        return "echo 'usage: this is another program'\n"
    cases = []
    for at, (arguments, text) in enumerate(answers):
        file = folder.parent / "bin" / f"{program}.{at}"
        (folder / f"{program}.{at}").write_text(text)
        cases.append(f"{shlex.quote(arguments)}) cat {shlex.quote(str(file))};;\n")
    if program == "pmset":
        listed = _ASSERTIONS.format(awake=shlex.quote(str(awake)))
        cases.append(f"{shlex.quote(' '.join(ASSERTIONS[1:]))}) {listed} ;;\n")
    return f'case "$*" in\n{"".join(cases)}esac\n'


def _write(file: Path, script: str) -> None:
    file.write_text(f"#!/bin/sh\n{script}")
    file.chmod(0o755)
