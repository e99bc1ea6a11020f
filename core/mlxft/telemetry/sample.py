"""What the machine is doing at one moment."""

from __future__ import annotations

from typing import TypedDict

import msgspec


class Sample(msgspec.Struct, frozen=True):
    """One look at the machine; a figure that can't be had is None, never a made-up zero.

    Memory, swap and disk are bytes, shares are 0 to 1, power is watts, temperature is degrees
    Celsius. `disk_free` is of the disk that the process works on.
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
    """What one source can say of a `Sample`; a figure it can't have is left out."""

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
