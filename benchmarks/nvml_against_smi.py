"""Compare the NVML figures in a run's journal with nvidia-smi's at the nearest time.

The CSV is recorded during the run, in UTC, by

    nvidia-smi --format=csv,noheader,nounits -lms 500 --query-gpu=\\
        timestamp,utilization.gpu,power.draw,temperature.gpu,clocks.sm,memory.used,uuid
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlxft.runs.events import MachineSampled
from mlxft.runs.journal import JournalReader
from mlxft.telemetry.sample import Sample

FIGURES = ("gpu_percent", "watts", "celsius", "sm_mhz", "memory_mib")
NEAR_SECONDS = 0.3
"""Readings further apart are not compared: slightly more than half of nvidia-smi's period."""


@dataclass(frozen=True)
class Reading:
    """All figures at one time, in the order of `FIGURES`; None if missing."""

    time: float
    figures: tuple[float | None, ...]


def main() -> None:
    """Print the median and maximum difference of each figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("journal", type=Path)
    parser.add_argument("csv", type=Path)
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    options = parser.parse_args()
    pairs = matched(from_journal(options.journal), from_smi(options.csv))
    result = {name: differences(pairs, at) for at, name in enumerate(FIGURES)}
    print(json.dumps(result) if options.json else table(result))


def from_journal(path: Path) -> list[Reading]:
    """The engine's samples."""
    events = JournalReader(path).read()
    return [_reading(each.sample) for each in events if isinstance(each, MachineSampled)]


def _reading(sample: Sample) -> Reading:
    share, memory = sample.gpu_share, sample.gpu_memory_used
    percent = None if share is None else 100 * share
    mebibytes = None if memory is None else memory / 2**20
    others = (sample.gpu_power, sample.gpu_temperature, sample.gpu_frequency_mhz)
    return Reading(sample.time, (percent, *others, mebibytes))


def from_smi(path: Path) -> list[Reading]:
    """nvidia-smi's readings."""
    return [_smi_reading(line) for line in path.read_text().splitlines()]


def _smi_reading(line: str) -> Reading:
    moment, *figures, _uuid = (each.strip() for each in line.split(","))
    time = datetime.strptime(moment, "%Y/%m/%d %H:%M:%S.%f").replace(tzinfo=UTC)
    return Reading(time.timestamp(), tuple(map(float, figures)))


def matched(ours: list[Reading], theirs: list[Reading]) -> list[tuple[Reading, Reading]]:
    """Each of our readings with the nearest of theirs."""
    pairs = [(one, min(theirs, key=lambda other: abs(other.time - one.time))) for one in ours]
    return [pair for pair in pairs if abs(pair[0].time - pair[1].time) <= NEAR_SECONDS]


def differences(pairs: list[tuple[Reading, Reading]], at: int) -> dict[str, float]:
    """The number of pairs with the figure, and the median and maximum absolute difference."""
    found = [
        abs(one - other)
        for one, other in ((ours.figures[at], theirs.figures[at]) for ours, theirs in pairs)
        if one is not None and other is not None
    ]
    if not found:
        return {"pairs": 0}
    median, most = statistics.median(found), max(found)
    return {"pairs": len(found), "median": round(median, 2), "most": round(most, 2)}


def table(result: dict[str, dict[str, float]]) -> str:
    """The result as readable lines."""
    return "\n".join(f"{name:12} {figures}" for name, figures in result.items())


if __name__ == "__main__":
    main()
