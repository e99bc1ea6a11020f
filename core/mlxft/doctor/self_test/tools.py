"""The system's tools that gauges read, and whether they answer."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from mlxft.doctor import mac
from mlxft.doctor.device import NVIDIA_SMI, nvidia_finding
from mlxft.doctor.finding import NOT_KNOWN
from mlxft.memory.fitted import BackendKind
from mlxft.telemetry.apple import IOREG, SYSCTL, THERMAL, VM_STAT, Command, Outputs
from mlxft.telemetry.apple_text import (
    parse_ioreg,
    parse_sysctl,
    parse_thermal_level,
    parse_vm_stat,
)

ASSERTIONS: Final[Command] = ("/usr/bin/pmset", "-g", "assertions")
"""Which processes keep a Mac awake."""


@dataclass(frozen=True)
class Tool:
    """A tool by its name, the command that is read, what it is for, and whether a text is an
    answer."""

    name: str
    command: Command
    use: str
    is_answer: Callable[[str], bool]


MAC_TOOLS: Final = (
    Tool("ioreg", IOREG, "what the GPU does", lambda text: parse_ioreg(text).share is not None),
    Tool("vm_stat", VM_STAT, "memory in use", lambda text: parse_vm_stat(text).used is not None),
    Tool("sysctl", SYSCTL, "total memory", lambda text: parse_sysctl(text).memory_size is not None),
    Tool("notifyutil", THERMAL, "heat", lambda text: parse_thermal_level(text) is not None),
    Tool("pmset", mac.SETTINGS, "the sleep setting", lambda text: bool(mac.parse_settings(text))),
    Tool("sw_vers", mac.VERSION, "macOS's version", lambda text: text[:1].isdecimal()),
    Tool(
        "system_profiler",
        mac.DISPLAYS,
        "whether a display is on",
        lambda text: mac.parse_displays(text) is not None,
    ),
)

CUDA_TOOLS: Final = (
    Tool(
        "nvidia-smi",
        NVIDIA_SMI,
        "who uses the GPU",
        lambda text: nvidia_finding(text).seen != NOT_KNOWN,
    ),
)


def tools_here(kind: BackendKind) -> Sequence[Tool]:
    """The tools of this machine."""
    if sys.platform == "darwin":
        return MAC_TOOLS
    return CUDA_TOOLS if kind == "cuda" else ()


def answers_of_tools(tools: Sequence[Tool], run: Outputs) -> dict[str, bool | None]:
    """Whether each tool answers what is read from it; None for no answer."""
    printed = run([each.command for each in tools])
    return {
        tool.name: tool.is_answer(text) if text.strip() else None
        for tool, text in zip(tools, printed, strict=True)
    }


def awake_processes(run: Outputs) -> list[int]:
    """The caffeinate processes that keep this Mac awake; empty elsewhere."""
    if sys.platform != "darwin":
        return []
    return parse_awake_processes(run([ASSERTIONS])[0])


def parse_awake_processes(text: str) -> list[int]:
    """The caffeinate processes of ``pmset -g assertions`` that prevent the system's sleep."""
    found = re.findall(r"pid (\d+)\(caffeinate\):.*\bPrevent(?:UserIdle)?SystemSleep\b", text)
    return sorted({int(each) for each in found})
