"""Power, heat, sleep and display: what slows or ends a long run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mlxft.doctor.finding import Finding, Verdict, unknown

_HEAT: Final = ("nominal", "moderate", "heavy", "trapping", "sleeping")
"""Names of ``thermalpressurelevel``."""


def source_finding(on_battery: bool | None) -> Finding:
    """Mains or battery; None without a battery to read."""
    if on_battery is None:
        return unknown("power")
    if on_battery:
        return Finding(
            "power",
            "warning",
            "battery",
            "Plug in: a long run empties it, and caffeinate -s prevents sleep on mains only.",
        )
    return Finding("power", "ok", "mains")


def low_power_finding(on: bool | None) -> Finding:
    """macOS's low-power mode."""
    if on is None:
        return unknown("low-power mode")
    if on:
        return Finding(
            "low-power mode", "warning", "on", "Turn it off in System Settings, Battery or Energy."
        )
    return Finding("low-power mode", "ok", "off")


def heat_finding(level: int | None) -> Finding:
    """macOS's thermal pressure, from 0 to 4."""
    if level is None or not 0 <= level < len(_HEAT):
        return unknown("heat")
    if level == 0:
        return Finding("heat", "ok", _HEAT[0])
    verdict: Verdict = "note" if level == 1 else "warning"
    return Finding("heat", verdict, _HEAT[level], "The GPU is slowed down: let it cool.")


def sleep_finding(minutes: int | None, caffeinate: bool) -> Finding:
    """After how many idle minutes a Mac sleeps, 0 for never, and whether a run prevents that."""
    if minutes is None:
        return unknown("sleep")
    if minutes == 0:
        return Finding("sleep", "ok", "never while idle; a closed lid sleeps all the same")
    after = f"after {minutes} idle {'minute' if minutes == 1 else 'minutes'}"
    if caffeinate:
        seen = f"{after}; a run prevents it with caffeinate, but not that of a closed lid"
        return Finding("sleep", "ok", seen)
    return Finding(
        "sleep",
        "warning",
        f"{after}, and there is no caffeinate to prevent it",
        "Before a long run: sudo pmset -c sleep 0",
    )


def display_finding(asleep: Sequence[bool] | None, minutes: int | None) -> Finding:
    """Whether a display is on, and after how many idle minutes they sleep."""
    subject = "display"
    remedy = (
        "macOS may end a long step to keep the display alive (“Impacting Interactivity”). For a "
        "run with long steps: pmset displaysleepnow"
    )
    if asleep is None:
        return unknown(subject)
    if all(asleep):
        return Finding(subject, "ok", "asleep" if asleep else "none")
    sleeps = {None: "", 0: "; never sleeps"}.get(minutes, f"; sleeps after {minutes} min")
    return Finding(subject, "note", f"on{sleeps}", remedy)
