"""Read an NVIDIA GPU through NVML, if nvidia-ml-py is installed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any

from mlxft.telemetry.sample import Figures


class Nvidia:
    """One GPU: by UUID (as in ``mx.device_info()``) if given, else the first visible one."""

    def __init__(self, uuid: str | None = None) -> None:
        self._uuid = uuid
        self._nvml: Any = None
        self._device: Any = None

    def read(self) -> Figures:
        """The current figures; those the driver refuses are None. Raises without NVML."""
        nvml, device = self._opened()
        # Version 2 excludes the driver's own memory, like nvidia-smi.
        memory = _figure(
            nvml, lambda: nvml.nvmlDeviceGetMemoryInfo(device, version=nvml.nvmlMemory_v2)
        )
        busy = _figure(nvml, lambda: nvml.nvmlDeviceGetUtilizationRates(device).gpu)
        milliwatts = _figure(nvml, lambda: nvml.nvmlDeviceGetPowerUsage(device))
        return Figures(
            gpu_name=_figure(nvml, lambda: _text(nvml.nvmlDeviceGetName(device))),
            gpu_share=busy / 100 if busy is not None else None,
            gpu_memory_used=memory.used if memory else None,
            gpu_memory_total=memory.total if memory else None,
            gpu_power=milliwatts / 1000 if milliwatts is not None else None,
            gpu_frequency_mhz=_figure(
                nvml, lambda: nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_SM)
            ),
            gpu_temperature=_figure(
                nvml, lambda: nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU)
            ),
        )

    def close(self) -> None:
        """Release the driver."""
        if self._nvml is not None:
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()
        self._nvml = self._device = None

    def _opened(self) -> tuple[Any, Any]:
        if self._device is None:
            import pynvml

            pynvml.nvmlInit()
            self._nvml = pynvml
            self._device = _device(pynvml, self._uuid or _first_visible())
        return self._nvml, self._device


def _first_visible() -> str:
    """The first of ``CUDA_VISIBLE_DEVICES``: an index or a UUID."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip() or "0"


def _device(nvml: Any, name: str) -> Any:
    if name.isdigit():
        return nvml.nvmlDeviceGetHandleByIndex(int(name))
    uuid = name if name.startswith(("GPU-", "MIG-")) else f"GPU-{name}"
    return nvml.nvmlDeviceGetHandleByUUID(uuid)


def _figure(nvml: Any, query: Callable[[], Any]) -> Any:
    try:
        return query()
    except nvml.NVMLError:
        return None


def _text(name: str | bytes) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else name
