"""What the machine is doing at one moment."""

from __future__ import annotations

import msgspec


class Sample(msgspec.Struct, frozen=True):
    """One look at the machine; a figure that can't be had is None, never a made-up zero.

    Memory and swap are bytes, shares are 0 to 1, power is watts, temperature is degrees Celsius.
    """

    time: float
    cpu_share: float | None = None
    memory_used: int | None = None
    memory_total: int | None = None
    memory_pressure: str | None = None
    swap_used: int | None = None
    gpu_name: str | None = None
    gpu_share: float | None = None
    gpu_memory_used: int | None = None
    gpu_memory_total: int | None = None
    gpu_power: float | None = None
    gpu_frequency_mhz: float | None = None
    gpu_temperature: float | None = None
    thermal_level: int | None = None
