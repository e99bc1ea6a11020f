"""A Mac's findings, from the output of its tools: pure functions that never raise."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mlxft.doctor import memory, power, versions
from mlxft.doctor.device import gpu_finding
from mlxft.doctor.finding import Finding
from mlxft.telemetry.apple import IOREG, SYSCTL, THERMAL, VM_STAT, Command
from mlxft.telemetry.apple_text import parse_ioreg, parse_sysctl, parse_thermal_level
from mlxft.telemetry.limits import apple_limits
from mlxft.telemetry.programs import PROGRAMS, parse_programs
from mlxft.text.printable import printable_line

VERSION: Final[Command] = ("/usr/bin/sw_vers", "-productVersion")
CHIP: Final[Command] = (
    "/usr/sbin/sysctl",
    "-i",
    "hw.optional.arm64",
    "machdep.cpu.brand_string",
)
BATTERY: Final[Command] = ("/usr/bin/pmset", "-g", "batt")
SETTINGS: Final[Command] = ("/usr/bin/pmset", "-g")
DISPLAYS: Final[Command] = ("/usr/sbin/system_profiler", "-json", "SPDisplaysDataType")

COMMANDS: Final = (
    *(SYSCTL, VM_STAT, IOREG, THERMAL),
    *(VERSION, CHIP, BATTERY, SETTINGS, DISPLAYS, PROGRAMS),
)
"""All that a Mac is asked; none of them needs root or changes anything."""


def system_findings(answers: Mapping[Command, str], interpreter: str) -> list[Finding]:
    """macOS and the processor; `interpreter` is Python's architecture."""
    chip = dict(re.findall(r"^([\w.]+):[ \t]*(.*)$", answers.get(CHIP, ""), re.M))
    has_arm64 = {"1": True, "0": False}.get(chip.get("hw.optional.arm64", "").strip())
    if has_arm64 is None and "Intel" in chip.get("machdep.cpu.brand_string", ""):
        has_arm64 = False
    name = printable_line(chip.get("machdep.cpu.brand_string", "")).strip() or None
    return [
        versions.macos_finding(answers.get(VERSION, "")),
        versions.mac_processor_finding(interpreter, has_arm64, name),
    ]


def machine_findings(answers: Mapping[Command, str], caffeinate: bool) -> list[Finding]:
    """Memory, GPU, power, heat, sleep and display."""
    limits = apple_limits(lambda commands: [answers.get(each, "") for each in commands])
    kernel, gpu = parse_sysctl(answers.get(SYSCTL, "")), parse_ioreg(answers.get(IOREG, ""))
    settings = parse_settings(answers.get(SETTINGS, ""))
    display_minutes = settings.get("displaysleep")
    return [
        memory.limit_finding(limits),
        memory.wired_limit_finding(kernel.memory_size, kernel.wired_limit),
        memory.others_finding(limits, parse_programs(answers.get(PROGRAMS, ""))),
        memory.pressure_finding(kernel.pressure),
        memory.swap_finding(kernel.swap_used),
        gpu_finding(gpu.share, gpu.allocated),
        power.source_finding(parse_on_battery(answers.get(BATTERY, ""))),
        power.low_power_finding(parse_low_power(settings)),
        power.heat_finding(parse_thermal_level(answers.get(THERMAL, ""))),
        power.sleep_finding(settings.get("sleep"), caffeinate),
        power.display_finding(parse_displays(answers.get(DISPLAYS, "")), display_minutes),
    ]


def parse_on_battery(text: str) -> bool | None:
    """The source in the first line of ``pmset -g batt``."""
    source = re.search(r"drawing from '(AC|Battery|UPS) Power'", text)
    return None if source is None else source[1] != "AC"


def parse_settings(text: str) -> dict[str, int]:
    """The settings of ``pmset -g`` that are whole numbers, by name."""
    return {name: int(value) for name, value in re.findall(r"^\s+(\w+)[ \t]+(\d+)\b", text, re.M)}


def parse_low_power(settings: Mapping[str, int]) -> bool | None:
    """Older systems have `lowpowermode`, newer ones `powermode`: 0 automatic, 1 low, 2 high."""
    mode = settings.get("lowpowermode", settings.get("powermode"))
    return None if mode is None else mode == 1


def parse_displays(text: str) -> Sequence[bool] | None:
    """For each display that is connected whether it is asleep, from ``system_profiler -json``."""
    try:
        cards = json.loads(text)["SPDisplaysDataType"]
        displays: list[dict[str, Any]] = [
            each for card in cards for each in card.get("spdisplays_ndrvs", ())
        ]
        return [
            each.get("spdisplays_asleep") == "spdisplays_yes"
            for each in displays
            if each.get("spdisplays_online", "spdisplays_yes") == "spdisplays_yes"
        ]
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
