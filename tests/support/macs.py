"""What the tools of some Macs print, cut to the lines that are read. Names in it are made up."""

from __future__ import annotations

import json
from collections.abc import Mapping

from mlxft.doctor import mac
from mlxft.telemetry.apple import IOREG, SYSCTL, THERMAL, VM_STAT, Command

USER, HOST, SERIAL = "jane.doe", "Janes-MacBook-Pro", "C02XK1ZZJGH5"


def _vm_stat(anonymous: int, wired: int, compressor: int, purgeable: int) -> str:
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
    VM_STAT: _vm_stat(210_000, 110_000, 120_000, 4_000),
    IOREG: _ioreg("Apple M1", 34, 1_200_000_000),
    THERMAL: _thermal(1),
    mac.BATTERY: f"Now drawing from 'Battery Power'\n {_BATTERY_ID}\t34%; discharging; 5:58 left\n",
    mac.SETTINGS: _settings("1 (sleep prevented by powerd, bluetoothd)", 2, "lowpowermode 1"),
    mac.DISPLAYS: _displays(False),
    mac.PROGRAMS: (
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
    VM_STAT: _vm_stat(1_624_916, 221_191, 0, 20_933),
    IOREG: _ioreg("Apple M3 Max", 29, 4_783_898_624),
    THERMAL: _thermal(0),
    mac.BATTERY: f"Now drawing from 'AC Power'\n {_BATTERY_ID}\t100%; charged; 0:00 remaining\n",
    mac.SETTINGS: _settings("10", 10, "powermode 2"),
    mac.DISPLAYS: _displays(True, True),
    mac.PROGRAMS: "12 /sbin/launchd\n",
}

M3_ULTRA_512GB: Mapping[Command, str] = {
    mac.VERSION: "26.3\n",
    mac.CHIP: _chip("Apple M3 Ultra"),
    SYSCTL: _sysctl(512 * 1024**3, "0.00M", 1, 522_000),
    VM_STAT: _vm_stat(11_058_419, 1_434_855, 0, 89_568),
    IOREG: _ioreg("Apple M3 Ultra", 0, 400_000_000),
    THERMAL: _thermal(0),
    mac.BATTERY: "Now drawing from 'AC Power'\n",
    mac.SETTINGS: _settings("0", 0, "lowpowermode 0"),
    mac.DISPLAYS: json.dumps({"SPDisplaysDataType": [{"_name": "GPU"}]}),
    mac.PROGRAMS: "12 /sbin/launchd\n",
}
