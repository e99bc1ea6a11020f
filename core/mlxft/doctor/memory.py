"""Memory: what a run may use, what others use, and what can be changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mlxft.doctor.finding import Finding, Verdict, unknown
from mlxft.telemetry.limits import GIB, MachineLimits
from mlxft.text import figures

SMALL: Final = 12 * GIB
"""Machines with less total memory train only small models."""

KEPT_FOR_SYSTEM: Final = 6 * GIB
"""The least that a raised limit should leave to macOS; an eighth of the memory if that is more."""

MUCH_SWAP: Final = GIB

_PRESSURE: Final[Mapping[str, tuple[Verdict, str]]] = {
    "warning": ("warning", "Close programs; macOS compresses memory, and a run would be slow."),
    "critical": ("problem", "Close programs before a run; macOS may end it."),
}


def limit_finding(limits: MachineLimits) -> Finding:
    """The most memory that a run may use here."""
    subject = "memory limit"
    if not limits.total:
        return unknown(subject)
    # A wired limit may be set above the memory.
    most = min(limits.limit, limits.total)
    seen = f"{figures.size(most)} for a run, of {figures.size(limits.total)}"
    if limits.kind != "cuda" and limits.total < SMALL:
        return Finding(
            subject,
            "note",
            seen,
            "Use small or 4-bit models; mlxft-tui estimate says whether a recipe fits.",
        )
    return Finding(subject, "ok", seen)


def wired_limit_finding(total: int | None, limit: int | None) -> Finding:
    """The GPU's limit on a Mac, with the command that changes it; both in bytes."""
    subject = "wired limit"
    if not total:
        return unknown(subject)
    most = total - max(KEPT_FOR_SYSTEM, total // 8)
    if limit is None:
        if total < 4 * KEPT_FOR_SYSTEM:
            return Finding(subject, "ok", "macOS's default; this Mac has too little to raise it")
        return Finding(
            subject,
            "ok",
            "macOS's default",
            "If a run just doesn't fit, raise it until the next restart: "
            f"sudo sysctl iogpu.wired_limit_mb={most // 1024**2}",
        )
    seen = f"set to {figures.size(limit)}"
    if total - limit < KEPT_FOR_SYSTEM * 2 // 3:
        return Finding(
            subject,
            "warning",
            f"{seen}, which leaves macOS {figures.size(max(0, total - limit))}",
            "macOS itself may lack memory in a run. "
            "The default again: sudo sysctl iogpu.wired_limit_mb=0",
        )
    return Finding(subject, "ok", seen)


def others_finding(limits: MachineLimits, programs: Mapping[str, int]) -> Finding:
    """What other programs leave free; `programs` are the largest with their bytes, if known."""
    subject = "other programs"
    if limits.available is None or not limits.total:
        return unknown(subject)
    seen = f"{figures.size(max(0, limits.available))} of {figures.size(limits.total)} are free"
    largest = sorted(programs.items(), key=lambda each: -each[1])[:3]
    names = ", ".join(f"{name} ({figures.size(size)})" for name, size in largest if size > GIB // 4)
    if limits.available < limits.limit / 2:
        close = f"Close programs, the largest first: {names}." if names else "Close programs."
        return Finding(subject, "warning", seen, close)
    return Finding(subject, "ok", f"{seen}; the largest are {names}" if names else seen)


def pressure_finding(pressure: str | None) -> Finding:
    """macOS's own judgement of its memory."""
    if pressure is None:
        return unknown("memory pressure")
    if pressure not in _PRESSURE:
        return Finding("memory pressure", "ok", pressure)
    verdict, remedy = _PRESSURE[pressure]
    return Finding("memory pressure", verdict, pressure, remedy)


def swap_finding(used: int | None) -> Finding:
    """Swap in use, in bytes."""
    if used is None:
        return unknown("swap")
    if used > MUCH_SWAP:
        return Finding(
            "swap",
            "warning",
            f"{figures.size(used)} used",
            "Close programs: a run whose memory is swapped is slow.",
        )
    return Finding("swap", "ok", f"{figures.size(used)} used" if used else "none used")
