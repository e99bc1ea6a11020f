"""A log that a user made with ``sudo powermetrics``, as text or property list.

The application never runs powermetrics itself: it needs root.
"""

from __future__ import annotations

import plistlib
import re
from dataclasses import dataclass
from typing import Any
from xml.parsers.expat import ExpatError


@dataclass(frozen=True)
class Powermetrics:
    """The GPU's first sample in a log; share is 0 to 1, watts, MHz."""

    gpu_share: float | None = None
    gpu_power: float | None = None
    gpu_frequency_mhz: float | None = None


def parse_powermetrics(log: str) -> Powermetrics:
    """Read either format; a figure that the log does not hold is None."""
    return _from_plist(log) if log.lstrip().startswith("<?xml") else _from_text(log)


def _from_text(log: str) -> Powermetrics:
    idle = _first(r"^GPU idle residency:\s+([\d.]+)%", log)
    active = _first(r"^GPU (?:HW )?active residency:\s+([\d.]+)%", log)
    milliwatts = _first(r"^GPU Power:\s+([\d.]+) mW", log)
    if active is None and idle is not None:
        active = 100 - idle
    return Powermetrics(
        gpu_share=active / 100 if active is not None else None,
        gpu_power=milliwatts / 1000 if milliwatts is not None else None,
        gpu_frequency_mhz=_first(r"^GPU (?:HW )?active frequency:\s+([\d.]+) MHz", log),
    )


def _first(pattern: str, log: str) -> float | None:
    found = re.search(pattern, log, re.MULTILINE)
    return float(found[1]) if found else None


def _from_plist(log: str) -> Powermetrics:
    first = log.split("\0", 1)[0]
    try:
        found = plistlib.loads(first.encode())
    except (plistlib.InvalidFileException, ExpatError, ValueError, AttributeError):
        return Powermetrics()
    if not isinstance(found, dict):
        return Powermetrics()
    gpu, processor = _section(found, "gpu"), _section(found, "processor")
    idle, nanoseconds = _number(gpu.get("idle_ratio")), _number(found.get("elapsed_ns"))
    millijoules = _number(gpu.get("gpu_energy"))
    milliwatts = _number(processor.get("gpu_power"))
    if milliwatts is None and millijoules is not None and nanoseconds:
        milliwatts = millijoules / (nanoseconds / 1e9)
    return Powermetrics(
        gpu_share=1 - idle if idle is not None else None,
        gpu_power=milliwatts / 1000 if milliwatts is not None else None,
        # The key says Hz; the value is MHz.
        gpu_frequency_mhz=_number(gpu.get("freq_hz")),
    )


def _section(found: dict[str, Any], name: str) -> dict[str, Any]:
    section = found.get(name)
    return section if isinstance(section, dict) else {}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
