"""Parse the output of macOS tools: pure functions that never raise.

Figures missing from the text are None.
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

    `allocated` is the driver's memory for all programs, in bytes; the "in use" figure beside it
    drops to nearly zero between command buffers.
    """

    name: str | None = None
    share: float | None = None
    allocated: int | None = None


@dataclass(frozen=True)
class VirtualMemory:
    """Bytes from ``vm_stat``; `used` is None if a count it needs is missing."""

    used: int | None = None
    wired: int | None = None
    compressed: int | None = None


@dataclass(frozen=True)
class Kernel:
    """Figures from ``sysctl``, in bytes; `wired_limit` is None for the system's default."""

    memory_size: int | None = None
    swap_used: int | None = None
    pressure: str | None = None
    wired_limit: int | None = None


@dataclass(frozen=True)
class Macmon:
    """One line of ``macmon pipe``; watts, MHz, degrees Celsius, shares 0 to 1.

    A power or temperature of zero is a stuck counter, as on macOS 27, or a missing sensor.
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
    busy = figures.get("Device Utilization %")
    allocated = figures.get("Alloc system memory")
    return Accelerator(
        name=model[1] if model else None,
        share=int(busy) / 100 if busy is not None else None,
        allocated=int(allocated) if allocated is not None else None,
    )


def parse_vm_stat(text: str) -> VirtualMemory:
    """Used = anonymous - purgeable + wired + compressor pages, as in Activity Monitor."""
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
    """The known keys; a wired limit of 0 means the system's default."""
    values = dict(re.findall(r"^([\w.]+):[ \t]*(.*)$", text, re.M))
    # sysctl writes the decimal point of the user's locale.
    swap = re.search(r"used = (\d+)(?:[.,](\d+))?([KMGT])", values.get("vm.swapusage", ""))
    level = _integer(values.get("kern.memorystatus_vm_pressure_level"))
    limit = _integer(values.get("iogpu.wired_limit_mb"))
    return Kernel(
        memory_size=_integer(values.get("hw.memsize")),
        swap_used=_bytes(*swap.groups()) if swap else None,
        pressure=_PRESSURE.get(level) if level is not None else None,
        wired_limit=limit * 1024**2 if limit else None,
    )


def parse_thermal_level(text: str) -> int | None:
    """The level from ``notifyutil -g``: 0 nominal, 1 moderate, 2 heavy, 3 trapping, 4 sleeping."""
    level = re.search(r"thermalpressurelevel\s+(\d+)\s*$", text, re.M)
    return int(level[1]) if level else None


def parse_macmon(line: str) -> Macmon:
    """Supports both generations of keys: ``gpu_active_ratio``, and the older ``gpu_usage``."""
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


def _bytes(whole: str, decimals: str | None, unit: str) -> int:
    return round(float(f"{whole}.{decimals or 0}") * 1024.0 ** " KMGT".index(unit))


def _integer(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"\d+", text.strip()) else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
