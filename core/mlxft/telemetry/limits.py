"""How much memory this machine has for training, determined without MLX."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final, Literal

from mlxft.telemetry.apple import VM_STAT, Outputs, outputs, read_kernel
from mlxft.telemetry.apple_text import parse_vm_stat
from mlxft.telemetry.nvidia import Nvidia

MachineKind = Literal["metal", "cuda", "cpu"]

GIB: Final = 1024**3

_CUDA_BUILDS: Final = ("mlx-cuda-13", "mlx-cuda-12", "mlx-cuda")
_CONTAINER_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


@dataclass(frozen=True)
class MachineLimits:
    """Memory of the device MLX uses, in bytes: total, currently free and recommended maximum.

    `recommended` is None if the system recommends nothing; then `total` is the limit.
    """

    total: int
    available: int | None
    recommended: int | None
    kind: MachineKind

    @property
    def limit(self) -> int:
        """The most memory a run may use."""
        return self.total if self.recommended is None else self.recommended


def machine_memory() -> MachineLimits:
    """This machine's limits; a started engine knows its own more precisely."""
    if sys.platform == "darwin":
        return apple_limits()
    if _mlx_uses_cuda():
        nvidia = _nvidia_limits()
        if nvidia is not None:
            return nvidia
    return _host_limits()


def apple_limits(run: Outputs = outputs) -> MachineLimits:
    """An Apple chip's limits: the wired limit if set, else the system's default."""
    kernel, memory = read_kernel(run), parse_vm_stat(run([VM_STAT])[0])
    total = kernel.memory_size or 0
    return MachineLimits(
        total=total,
        available=total - memory.used if memory.used is not None else None,
        recommended=kernel.wired_limit or default_working_set(total),
        kind="metal",
    )


def default_working_set(total: int) -> int:
    """Metal's recommended maximum for this much memory, as reported by macOS 15 to 26.

    Devices report two thirds of 8 GB, 74% of 16 and 18 GB, 78% of 32 to 48 GB, 81% of 64 GB and
    more, but 84% of 128 GB.
    """
    steps = ((12, 2 / 3), (32, 0.74), (64, 0.78))
    share = next((share for size, share in steps if total < size * GIB), 0.81)
    return int(total * share)


def _mlx_uses_cuda() -> bool:
    for name in _CUDA_BUILDS:
        try:
            distribution(name)
        except PackageNotFoundError:
            continue
        return True
    return False


def _nvidia_limits() -> MachineLimits | None:
    nvidia = Nvidia()
    try:
        figures = nvidia.read()
    except Exception:
        # Without a driver NVML raises its own errors; MLX then uses the CPU.
        return None
    finally:
        nvidia.close()
    total, used = figures.get("gpu_memory_total"), figures.get("gpu_memory_used")
    if total is None:
        return None
    return MachineLimits(total, total - used if used is not None else None, None, "cuda")


def _host_limits() -> MachineLimits:
    import psutil

    memory = psutil.virtual_memory()
    total = min(memory.total, container_limit() or memory.total)
    return MachineLimits(total, min(memory.available, total), None, "cpu")


def container_limit(files: Sequence[Path] = _CONTAINER_LIMITS) -> int | None:
    """The memory limit of this process's control group, in bytes."""
    for file in files:
        try:
            text = file.read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            return int(text)
    return None
