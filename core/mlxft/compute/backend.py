"""This process's MLX: its BLAS, device, speed, memory and shutdown.

Importing this module loads a fast BLAS where one is needed; it must be imported before mlx.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib.metadata
import os
import platform
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import mlxft
from mlxft.compute.kernel_files import remove_torn
from mlxft.compute.listed_models import models_listed_once
from mlxft.runs.events import BackendReady
from mlxft.storage.paths import cache_dir

SLOW_GFLOPS = 20.0
"""A CPU with fewer GFLOP/s in float32 products is using the reference BLAS."""

GFLOPS_SECONDS = 0.2
"""How long a CPU's speed is measured at most."""

_AGREEING: Final = 4
"""Products of about the same speed after which the fastest counts as undisturbed."""

_OPENBLAS = "libopenblas.so.0"
_PACKAGED = {
    "x86_64": ("ngsolve-openblas", "ngsolve_openblas/libopenblas*.so*"),
    "aarch64": ("cmeel-openblas", "cmeel.prefix/lib/libopenblas.so.0"),
}
"""The package with OpenBLAS for each Linux architecture, and the library's path in it.

Another architecture's library must not be loaded: it may use instructions this CPU doesn't have.
"""
_REFERENCE = "reference BLAS"


def _load_blas() -> str | None:
    """Load OpenBLAS ahead of the reference BLAS that mlx's Linux CPU wheel is linked against.

    Its symbols take precedence because they are global before mlx is loaded. Returns the library.
    """
    if sys.platform != "linux":
        return None
    # With every core busy, OpenBLAS's threads wait for each other far longer than they compute, so
    # one core is left to the rest of the machine.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) - 1)))
    for library in (*_packaged_openblas(), _OPENBLAS):
        try:
            ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
        except OSError:
            continue
        return library
    return None


def _set_up_cuda() -> None:
    """Environment variables that MLX's CUDA backend reads at its start.

    Command buffers end early by their arrays, though not by their operations: memory freed inside
    one stays allocated until its end, and the memory estimator assumes that it is little, but each
    takes the processor time, of which a step of few tokens is made. (MLX counts an operation's
    input values, not bytes: 40 is some 80 MB.) Compiled kernels are kept where a reboot leaves
    them. More buffers are remembered than MLX's 400, and no error ends a run that had twice as many
    different ones, as rows of many lengths may over hours.
    """
    if sys.platform != "linux":
        return
    os.environ.setdefault("MLX_MAX_OPS_PER_BUFFER", "100")
    os.environ.setdefault("MLX_MAX_MB_PER_BUFFER", "40")
    os.environ.setdefault("MLX_CUDA_GRAPH_CACHE_SIZE", "1000")
    os.environ.setdefault("MLX_ENABLE_CACHE_THRASHING_CHECK", "0")
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        kernels = cache_dir() / "kernels" / importlib.metadata.version("mlx")
        os.environ.setdefault("MLX_PTX_CACHE_DIR", str(kernels))
        remove_torn(Path(os.environ["MLX_PTX_CACHE_DIR"]))


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
    """Import mlx_lm without letting it lower this process's limit on open files."""
    # mlx_lm sets it too, but later: an engine needs no PyTorch and says nothing of it.
    os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"
    set_limit = resource.setrlimit
    resource.setrlimit = lambda *_: None
    try:
        with models_listed_once():
            import mlx_lm.utils  # noqa: F401
    finally:
        resource.setrlimit = set_limit


_BLAS = _load_blas()
_set_up_cuda()
_import_mlx_lm()

import mlx.core as mx  # noqa: E402

if mx.default_device() == mx.Device(mx.cpu):
    # On a CPU it calls a C++ compiler for seconds and makes nothing faster.
    mx.disable_compile()


@dataclass(frozen=True)
class MemoryUse:
    """MLX's memory in bytes; the peak doesn't include the cache."""

    active: int
    peak: int
    cache: int


def initialise() -> BackendReady:
    """Initialise MLX in the worker thread and describe its device; measures a CPU's speed."""
    device = kind()
    return BackendReady(
        device=device_name(),
        kind=device,
        blas=blas_name() if device == "cpu" else None,
        gflops=_measure_gflops() if device == "cpu" else None,
        memory_limit=memory_limit(),
    )


def kind() -> Literal["metal", "cuda", "cpu"]:
    """The kind of MLX's default device."""
    if mx.default_device() == mx.Device(mx.cpu):
        return "cpu"
    return "metal" if mx.metal.is_available() else "cuda"


def gpu_uuid() -> str | None:
    """The UUID of the NVIDIA GPU that MLX uses, by which NVML finds it; None on others."""
    uuid = mx.device_info().get("uuid")
    return str(uuid) if uuid else None


def slow_blas_advice(backend: BackendReady) -> str | None:
    """One sentence with the fix where a CPU uses the slow reference BLAS; else None."""
    fast = backend.gflops is None or backend.gflops >= SLOW_GFLOPS
    if fast or backend.blas != _REFERENCE:
        return None
    remedy = (
        "pip install 'PATH/TO/mlxft-tui[cpu]', with the path of your clone, installs a fast BLAS."
    )
    if _packaged_openblas():
        remedy = (
            "OpenBLAS is installed, but needs a cache that can be written; MLXFT_CACHE names it."
        )
    speed = f"Matrix products run at {backend.gflops:.0f} GFLOP/s, which is slow even for a CPU"
    return f"{speed}; {remedy}"


def memory() -> MemoryUse:
    """MLX's memory now; cheap, from any thread."""
    peak = max(_peaks.before, mx.get_peak_memory())
    return MemoryUse(mx.get_active_memory(), peak, mx.get_cache_memory())


@dataclass
class _Peaks:
    """Peaks in bytes from before MLX's own peak was last reset."""

    before: int = 0
    training: int = 0


_peaks = _Peaks()


def training_peak() -> int:
    """MLX's peak in bytes, excluding work done in `beside_training`."""
    return max(_peaks.training, mx.get_peak_memory())


@contextmanager
def beside_training() -> Iterator[None]:
    """Exclude the memory of an answer, for example, from the training peak."""
    _peaks.training = training_peak()
    try:
        yield
    finally:
        _peaks.before = memory().peak
        mx.reset_peak_memory()


def peak_of(compute: Callable[[], object]) -> int:
    """Bytes that a computation takes at most, on top of what there is; beside the training peak."""
    with beside_training():
        _peaks.before = memory().peak
        gc.collect()  # Garbage that is freed meanwhile would make the peak look smaller.
        mx.synchronize()
        before = mx.get_active_memory()
        mx.reset_peak_memory()
        compute()
        mx.synchronize()
        return max(0, mx.get_peak_memory() - before)


def memory_limit() -> int | None:
    """Bytes that MLX may use on its device; None if unknown."""
    information = mx.device_info()
    limit = information.get("max_recommended_working_set_size") or information.get("total_memory")
    return int(limit) if limit else None


def available_memory() -> int | None:
    """Bytes of that which this process has or other programs leave; None if unknown."""
    limit, free = memory_limit(), mx.device_info().get("free_memory")
    if limit is None or free is None:
        return limit
    return min(limit, int(free) + mx.get_active_memory() + mx.get_cache_memory())


def device_name() -> str:
    """The device's product name."""
    return str(mx.device_info().get("device_name") or platform.processor() or kind())


def has_kernels() -> bool:
    """Whether the folder of CUDA's compiled kernels is there; it can be deleted with the cache."""
    folder = os.environ.get("MLX_PTX_CACHE_DIR")
    return folder is None or Path(folder).is_dir()


def versions() -> dict[str, str]:
    """The versions that a run's numbers depend on."""
    return {
        "mlxft-tui": mlxft.__version__,
        "mlx": importlib.metadata.version("mlx"),
        "mlx-lm": importlib.metadata.version("mlx-lm"),
        "python": platform.python_version(),
    }


def limit_memory(limit: int) -> None:
    """Keep nothing that was freed, and schedule ahead only below `limit` bytes, from now on."""
    mx.set_cache_limit(0)
    if kind() != "cpu":
        mx.set_memory_limit(limit)


@contextmanager
def not_compiled() -> Iterator[None]:
    """Compute operations one by one, as a CPU always does."""
    if kind() != "cpu":
        mx.disable_compile()
    try:
        yield
    finally:
        if kind() != "cpu":
            mx.enable_compile()


@contextmanager
def bounded_memory(limit: int | None) -> Iterator[None]:
    """Let MLX schedule ahead only while it holds less than `limit` bytes.

    At the limit it waits for running work, and exceeds the limit if that frees nothing.
    """
    if limit is None or kind() == "cpu":
        yield
        return
    before = mx.set_memory_limit(limit)
    if before < limit:
        mx.set_memory_limit(before)
    try:
        yield
    finally:
        mx.set_memory_limit(before)


def row_streams() -> tuple[mx.Stream, ...]:
    """This thread's streams for rows that a CPU computes at the same time.

    They are as many as there are cores for each of BLAS's threads: two on two cores, where BLAS has
    one. With more, one product after the other uses them all, and this is empty.
    """
    if kind() != "cpu" or not _ROW_STREAMS:
        return ()
    if not hasattr(_of_thread, "row_streams"):
        _of_thread.row_streams = tuple(mx.new_stream(mx.cpu) for _ in range(_ROW_STREAMS))
    streams: tuple[mx.Stream, ...] = _of_thread.row_streams
    return streams


def _row_stream_count() -> int:
    """0 where a second stream would find no core of its own."""
    threads = os.environ.get("OPENBLAS_NUM_THREADS", "")
    if sys.platform != "linux" or not threads.isdecimal():
        return 0
    count = len(os.sched_getaffinity(0)) // max(1, int(threads))
    return count if count > 1 else 0


_ROW_STREAMS: Final = _row_stream_count()
_of_thread = threading.local()


def close() -> None:
    """Release this thread's streams, as the last thing it does; else the process aborts at exit."""
    mx.synchronize()
    vars(_of_thread).clear()
    mx.clear_streams()


def blas_name() -> str:
    if sys.platform == "darwin":
        return "Accelerate"
    return "OpenBLAS" if _BLAS else _REFERENCE


def _measure_gflops(rows: int = 256, inner: int = 512, columns: int = 2048) -> float:
    """The speed of a float32 product: the fastest of several, after a warm-up.

    Beside busy processes few of them are undisturbed.
    """
    left, right = mx.ones((rows, inner)), mx.ones((inner, columns))
    mx.eval(left, right, left @ right)
    end = time.perf_counter() + GFLOPS_SECONDS
    found = [_gflops_once(left, right)]
    while time.perf_counter() < end and not _agree(found):
        found.append(_gflops_once(left, right))
    mx.clear_cache()
    mx.reset_peak_memory()
    return max(found)


def _agree(speeds: list[float]) -> bool:
    return sum(each > 0.97 * max(speeds) for each in speeds) >= _AGREEING


def _gflops_once(left: mx.array, right: mx.array) -> float:
    started = time.perf_counter()
    mx.eval(left @ right)
    seconds = time.perf_counter() - started
    return 2 * left.size * right.shape[1] / seconds / 1e9
