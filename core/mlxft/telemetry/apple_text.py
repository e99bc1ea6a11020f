"""What macOS's own tools print, read: pure functions of text that never raise.

Each answers None for a figure that the text does not hold.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

_PRESSURE: Final = {1: "normal", 2: "warning", 4: "critical"}
"""Names of ``kern.memorystatus_vm_pressure_level``."""


@dataclass(frozen=True)
class Accelerator:
    """The busiest GPU of ``ioreg -r -d 1 -w 0 -c IOAccelerator``; share is 0 to 1.

    `allocated` is what the driver holds for all programs, in bytes; the "in use" figure beside it
    falls near zero between two command buffers.
    """

    name: str | None = None
    cores: int | None = None
    share: float | None = None
    allocated: int | None = None


@dataclass(frozen=True)
class VirtualMemory:
    """Bytes of ``vm_stat``; `used` is None where a count that it needs is missing."""

    used: int | None = None
    wired: int | None = None
    compressed: int | None = None


@dataclass(frozen=True)
class Kernel:
    """Figures of ``sysctl``, in bytes; `wired_limit` is None where it is the system's default."""

    memory_size: int | None = None
    swap_used: int | None = None
    pressure: str | None = None
    wired_limit: int | None = None


@dataclass(frozen=True)
class Pressure:
    """``memory_pressure``: bytes of the machine, and the share it calls free (0 to 1)."""

    memory_size: int | None = None
    free_share: float | None = None


@dataclass(frozen=True)
class Macmon:
    """One line of ``macmon pipe``; watts, MHz, degrees Celsius, shares 0 to 1.

    No chip uses no power or is at the freezing point: such a zero is a counter that stands still,
    as on macOS 27, or a sensor that isn't there.
    """

    gpu_share: float | None = None
    gpu_power: float | None = None
    gpu_frequency_mhz: float | None = None
    gpu_temperature: float | None = None


def parse_ioreg(text: str) -> Accelerator:
    """The accelerator with the highest device utilization."""
    nodes = [_accelerator(node) for node in re.split(r"^\s*\+-o ", text, flags=re.MULTILINE)]
    return max(nodes, key=lambda each: -1.0 if each.share is None else each.share)


def _accelerator(node: str) -> Accelerator:
    statistics = re.search(r'"PerformanceStatistics"\s*=\s*\{([^{}]*)\}', node)
    figures = dict(re.findall(r'"([^"]+)"=(\d+)', statistics[1])) if statistics else {}
    model = re.search(r'"model"\s*=\s*"([^"]+)"', node)
    cores = re.search(r'"gpu-core-count"\s*=\s*(\d+)', node)
    busy = figures.get("Device Utilization %")
    allocated = figures.get("Alloc system memory")
    return Accelerator(
        name=model[1] if model else None,
        cores=int(cores[1]) if cores else None,
        share=int(busy) / 100 if busy is not None else None,
        allocated=int(allocated) if allocated is not None else None,
    )


def parse_vm_stat(text: str) -> VirtualMemory:
    """Used is (anonymous - purgeable + wired + compressor) pages, as Activity Monitor counts it."""
    page = re.search(r"page size of (\d+) bytes", text)
    if page is None:
        return VirtualMemory()
    size = int(page[1])
    pages = {name: int(count) for name, count in re.findall(r"^(.+?):\s+(\d+)\.", text, re.M)}
    wired = pages.get("Pages wired down")
    compressed = pages.get("Pages occupied by compressor")
    anonymous = pages.get("Anonymous pages")
    used = None
    if wired is not None and compressed is not None and anonymous is not None:
        used = (anonymous - pages.get("Pages purgeable", 0) + wired + compressed) * size
    return VirtualMemory(
        used=used,
        wired=wired * size if wired is not None else None,
        compressed=compressed * size if compressed is not None else None,
    )


def parse_sysctl(text: str) -> Kernel:
    """The keys this module knows; a wired limit of 0 means the system's default."""
    values = dict(re.findall(r"^([\w.]+):[ \t]*(.*)$", text, re.M))
    swap = re.search(r"used = ([\d.]+)([KMGT])", values.get("vm.swapusage", ""))
    level = _integer(values.get("kern.memorystatus_vm_pressure_level"))
    limit = _integer(values.get("iogpu.wired_limit_mb"))
    return Kernel(
        memory_size=_integer(values.get("hw.memsize")),
        swap_used=round(float(swap[1]) * 1024 ** " KMGT".index(swap[2])) if swap else None,
        pressure=_PRESSURE.get(level) if level is not None else None,
        wired_limit=limit * 1024**2 if limit else None,
    )


def parse_memory_pressure(text: str) -> Pressure:
    """Free share is absent on some versions; it says little while swap is in use."""
    size = re.search(r"The system has (\d+)", text)
    free = re.search(r"free percentage:\s*(\d+)%", text)
    return Pressure(
        memory_size=int(size[1]) if size else None,
        free_share=int(free[1]) / 100 if free else None,
    )


def parse_thermal_level(text: str) -> int | None:
    """``notifyutil -g``'s level: 0 nominal, 1 moderate, 2 heavy, 3 trapping, 4 sleeping."""
    level = re.search(r"thermalpressurelevel\s+(\d+)\s*$", text, re.M)
    return int(level[1]) if level else None


def parse_macmon(line: str) -> Macmon:
    """Both generations of keys: ``gpu_active_ratio`` and ``gpu_freq_mhz``, or ``gpu_usage``."""
    try:
        found = json.loads(line)
    except ValueError:
        return Macmon()
    if not isinstance(found, dict):
        return Macmon()
    usage = found.get("gpu_usage")
    frequency, share = usage if isinstance(usage, list) and len(usage) == 2 else (None, None)
    temperatures = found.get("temp")
    return Macmon(
        gpu_share=_number(found.get("gpu_active_ratio", share)),
        gpu_power=_number(found.get("gpu_power")) or None,
        gpu_frequency_mhz=_number(found.get("gpu_freq_mhz", frequency)),
        gpu_temperature=_number(
            temperatures.get("gpu_temp_avg") if isinstance(temperatures, dict) else None
        )
        or None,
    )


def _integer(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"\d+", text.strip()) else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
