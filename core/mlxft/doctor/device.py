"""The device that MLX uses, measured in a process of its own, and what else uses it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterable
from typing import Final

import msgspec

from mlxft.doctor.finding import Finding, Verdict, unknown
from mlxft.engine.blas import blas_environment
from mlxft.memory.fitted import BackendKind
from mlxft.text import figures
from mlxft.text.printable import printable_line

START_SECONDS: Final = 60.0
"""How long the child may take to load MLX and measure; on a busy machine imports take long."""

BUSY: Final = 0.3
"""The share of a GPU from which others slow a run down noticeably."""

NVIDIA_SMI: Final = (
    "nvidia-smi",
    "--query-gpu=utilization.gpu,memory.used,memory.total",
    "--format=csv,noheader,nounits",
)


class Device(msgspec.Struct, frozen=True):
    """What ``python -m mlxft.engine describe`` prints."""

    device: str
    kind: BackendKind
    blas: str | None = None
    gflops: float | None = None
    memory_limit: int | None = None
    advice: str | None = None


class DeviceProbe:
    """Loads MLX in a child process while other things are read."""

    def __init__(self, command: Iterable[str] = ()) -> None:
        """`command` replaces the engine's."""
        self._process: subprocess.Popen[bytes] | None = None
        with contextlib.suppress(OSError):
            self._process = subprocess.Popen(
                # -P: modules in the current folder must not stand in for installed ones.
                [*command] or [sys.executable, "-P", "-m", "mlxft.engine", "describe"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **blas_environment()},
                start_new_session=True,
            )

    def findings(self, seconds: float = START_SECONDS) -> list[Finding]:
        """The device and its speed; waits for the child at most this long."""
        found = self.described(seconds)
        return [found] if isinstance(found, Finding) else device_findings(found)

    def described(self, seconds: float = START_SECONDS) -> Device | Finding:
        """The device, or why it can't be used."""
        if self._process is None:
            return _failed("it can't be started")
        try:
            printed, errors = self._process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            return Finding(
                "device",
                "warning",
                f"MLX wasn't ready within {seconds:.0f} s",
                "Run doctor again when the machine is idle.",
            )
        finally:
            self._process.kill()
            self._process.wait()
        return parse_device(printed.decode(errors="replace"), errors.decode(errors="replace"))


def parse_device(printed: str, errors: str) -> Device | Finding:
    """The device from the child's output, or why it can't be used."""
    last_line = printed.strip().rpartition("\n")[2]
    try:
        return msgspec.json.decode(last_line, type=Device)
    except msgspec.DecodeError:
        reason = errors.strip().rpartition("\n")[2] or "it printed nothing"
        return _failed(printable_line(reason)[:200])


def device_findings(found: Device) -> list[Finding]:
    """The device and, on a CPU, its BLAS."""
    backends = {"metal": "Metal", "cuda": "CUDA", "cpu": "CPU"}
    seen = f"{found.device} ({backends.get(found.kind, found.kind)})"
    if found.memory_limit:
        seen += f", which may use {figures.size(found.memory_limit)}"
    device = Finding("device", "ok", seen)
    if found.gflops is None:
        return [device]
    seen = f"{found.blas or 'not known'}, {found.gflops:.0f} GFLOP/s in float32 products"
    verdict: Verdict = "warning" if found.advice else "ok"
    return [device, Finding("BLAS", verdict, seen, found.advice)]


def _failed(reason: str) -> Finding:
    return Finding(
        "device",
        "problem",
        f"MLX can't be loaded: {reason}",
        "Install again: pip install 'PATH/TO/mlxft-tui', with [cpu] on Linux without a GPU.",
    )


def gpu_finding(share: float | None, used: int | None) -> Finding:
    """What uses the GPU now, with the driver's memory of all programs in bytes."""
    if share is None:
        return unknown("GPU use")
    seen = f"{share:.0%} busy" + (f", {figures.size(used)} allocated" if used is not None else "")
    if share >= BUSY:
        return Finding(
            "GPU use", "warning", seen, "Another program or run uses it: wait for it or close it."
        )
    return Finding("GPU use", "ok", seen)


def nvidia_finding(printed: str) -> Finding:
    """The first GPU of ``nvidia-smi``; unknown where that is missing or prints something else."""
    cells = [each.strip() for each in printed.strip().partition("\n")[0].split(",")]
    if len(cells) != 3 or not all(each.isdecimal() for each in cells):
        return unknown("GPU use")
    busy, used, total = map(int, cells)
    finding = gpu_finding(busy / 100, used * 1024**2)
    if finding.verdict == "ok" and used * 4 > total:
        return Finding(
            "GPU use",
            "warning",
            f"{finding.seen} of {figures.size(total * 1024**2)}",
            "Another process holds memory: nvidia-smi lists them.",
        )
    return finding
