"""MLX as this process has it: its BLAS, device, speed, memory and end.

Importing this module loads a fast BLAS where one is needed, and must come before mlx is imported.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import mlxft
from mlxft.runs.events import BackendReady

SLOW_GFLOPS = 20.0
"""Below this many GFLOP/s a CPU's float32 products are those of the reference BLAS."""

_OPENBLAS = "libopenblas.so.0"
_PACKAGED = {
    "x86_64": ("ngsolve-openblas", "ngsolve_openblas/libopenblas*.so*"),
    "aarch64": ("cmeel-openblas", "cmeel.prefix/lib/libopenblas.so.0"),
}
"""The package that brings OpenBLAS to each kind of Linux machine, and where it is in there.

Another machine's package must not be loaded: it may hold instructions that this CPU hasn't got.
"""
_REFERENCE = "reference BLAS"


def _load_blas() -> str | None:
    """Put OpenBLAS before the reference BLAS that mlx's Linux CPU wheel is linked against.

    Its symbols win because they are global before mlx is loaded. Returns the library loaded.
    """
    if sys.platform != "linux":
        return None
    # With every core busy OpenBLAS's threads wait for each other many times longer than they
    # compute, so one core is left to the rest of the machine.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) - 1)))
    for library in (*_packaged_openblas(), _OPENBLAS):
        try:
            ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
        except OSError:
            continue
        return library
    return None


def _bound_run_ahead() -> None:
    """Keep CUDA's command buffers small; what is freed inside one stays allocated to its end.

    Read by mlx when it starts. The estimator counts on it.
    """
    if sys.platform == "linux":
        os.environ.setdefault("MLX_MAX_OPS_PER_BUFFER", "20")
        os.environ.setdefault("MLX_MAX_MB_PER_BUFFER", "100")


def _packaged_openblas() -> list[str]:
    if platform.machine() not in _PACKAGED:
        return []
    name, pattern = _PACKAGED[platform.machine()]
    try:
        folder = Path(str(importlib.metadata.distribution(name).locate_file("")))
    except importlib.metadata.PackageNotFoundError:
        return []
    return [str(path) for path in sorted(folder.glob(pattern))]


def _import_mlx_lm() -> None:
    """Import mlx_lm without letting it lower this process's limit of open files."""
    set_limit = resource.setrlimit
    resource.setrlimit = lambda *_: None
    try:
        import mlx_lm.utils  # noqa: F401
    finally:
        resource.setrlimit = set_limit


_BLAS = _load_blas()
_bound_run_ahead()
_import_mlx_lm()

import mlx.core as mx  # noqa: E402

if mx.default_device() == mx.Device(mx.cpu):
    # There it calls a C++ compiler, takes seconds, and makes nothing faster.
    mx.disable_compile()


@dataclass(frozen=True)
class MemoryUse:
    """What MLX holds, in bytes; the peak leaves the cache out."""

    active: int
    peak: int
    cache: int


def initialise() -> BackendReady:
    """Make the worker thread's MLX ready and say what it runs on; measures a CPU's speed."""
    device = kind()
    information = mx.device_info()
    limit = information.get("max_recommended_working_set_size") or information.get("total_memory")
    return BackendReady(
        device=device_name(),
        kind=device,
        blas=_blas_name() if device == "cpu" else None,
        gflops=_measure_gflops() if device == "cpu" else None,
        memory_limit=int(limit) if limit else None,
    )


def kind() -> Literal["metal", "cuda", "cpu"]:
    """What MLX computes on by default."""
    if mx.default_device() == mx.Device(mx.cpu):
        return "cpu"
    return "metal" if mx.metal.is_available() else "cuda"


def gpu_uuid() -> str | None:
    """The NVIDIA GPU that MLX computes on, by which its driver's figures are found."""
    uuid = mx.device_info().get("uuid")
    return str(uuid) if uuid else None


def slow_blas_advice(backend: BackendReady) -> str | None:
    """One sentence with the fix where products are far slower than this machine can do."""
    fast = backend.gflops is None or backend.gflops >= SLOW_GFLOPS
    if fast or backend.blas != _REFERENCE:
        return None
    return (
        f"Matrix products run at {backend.gflops:.0f} GFLOP/s, which is slow even for a CPU; "
        "pip install 'mlxft-tui[cpu]' brings a fast BLAS."
    )


def memory() -> MemoryUse:
    """What MLX holds now; cheap, from any thread."""
    peak = max(_peaks.before, mx.get_peak_memory())
    return MemoryUse(mx.get_active_memory(), peak, mx.get_cache_memory())


@dataclass
class _Peaks:
    """Peaks in bytes of before MLX's own count was begun anew."""

    before: int = 0
    training: int = 0


_peaks = _Peaks()


def training_peak() -> int:
    """MLX's peak in bytes, without what was done in `beside_training`."""
    return max(_peaks.training, mx.get_peak_memory())


@contextmanager
def beside_training() -> Iterator[None]:
    """Keep the memory of an answer, say, apart from the training's."""
    _peaks.training = training_peak()
    try:
        yield
    finally:
        _peaks.before = memory().peak
        mx.reset_peak_memory()


def device_name() -> str:
    """What MLX computes on, as its maker calls it."""
    return str(mx.device_info().get("device_name") or platform.processor() or kind())


def versions() -> dict[str, str]:
    """The versions that decide a run's numbers."""
    return {
        "mlxft-tui": mlxft.__version__,
        "mlx": importlib.metadata.version("mlx"),
        "mlx-lm": importlib.metadata.version("mlx-lm"),
        "python": platform.python_version(),
    }


@contextmanager
def bounded_memory(limit: int | None) -> Iterator[None]:
    """Let MLX schedule ahead only while it holds less than `limit` bytes.

    It waits for what is under way then, and goes on above the limit where that frees nothing.
    """
    if limit is None or kind() == "cpu":
        yield
        return
    before = mx.set_memory_limit(limit)
    try:
        yield
    finally:
        mx.set_memory_limit(before)


def close() -> None:
    """The last act of the thread that used MLX; without it the process aborts at its exit."""
    mx.synchronize()
    mx.clear_streams()


def _blas_name() -> str:
    if sys.platform == "darwin":
        return "Accelerate"
    return "OpenBLAS" if _BLAS else _REFERENCE


def _measure_gflops(rows: int = 256, inner: int = 512, columns: int = 2048) -> float:
    """Speed of a float32 product, the faster of two after a first one."""
    left, right = mx.ones((rows, inner)), mx.ones((inner, columns))
    mx.eval(left, right, left @ right)
    fastest = max(_gflops_once(left, right) for _ in range(2))
    mx.clear_cache()
    mx.reset_peak_memory()
    return fastest


def _gflops_once(left: mx.array, right: mx.array) -> float:
    started = time.perf_counter()
    mx.eval(left @ right)
    seconds = time.perf_counter() - started
    return 2 * left.size * right.shape[1] / seconds / 1e9
