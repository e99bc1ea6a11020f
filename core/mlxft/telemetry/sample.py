"""One sample of the machine's state."""

from __future__ import annotations

from typing import TypedDict

import msgspec


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """The machine's state at one time; an unavailable figure is None, never zero.

    Memory, swap and disk are in bytes, shares from 0 to 1, power in watts, temperature in degrees
    Celsius. `disk_free` is that of the working disk.
    """

    time: float
    cpu_share: float | None = None
    memory_used: int | None = None
    memory_total: int | None = None
    memory_wired: int | None = None
    memory_compressed: int | None = None
    memory_pressure: str | None = None
    swap_used: int | None = None
    disk_free: int | None = None
    battery_share: float | None = None
    on_battery: bool | None = None
    gpu_name: str | None = None
    gpu_share: float | None = None
    gpu_memory_used: int | None = None
    gpu_memory_total: int | None = None
    gpu_power: float | None = None
    gpu_frequency_mhz: float | None = None
    gpu_temperature: float | None = None
    thermal_level: int | None = None


class Figures(TypedDict, total=False):
    """The part of a `Sample` that one source provides."""

    cpu_share: float | None
    memory_used: int | None
    memory_total: int | None
    memory_wired: int | None
    memory_compressed: int | None
    memory_pressure: str | None
    swap_used: int | None
    disk_free: int | None
    battery_share: float | None
    on_battery: bool | None
    gpu_name: str | None
    gpu_share: float | None
    gpu_memory_used: int | None
    gpu_memory_total: int | None
    gpu_power: float | None
    gpu_frequency_mhz: float | None
    gpu_temperature: float | None
    thermal_level: int | None
