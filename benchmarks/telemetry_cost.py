"""What telemetry costs a run: CPU time per sample of each source, as a share of one core.

Counts the CPU time of this process and of the tools that a source starts, at the engine's sampling
interval: an upper bound for how much sampling can slow down a step.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from mlxft.engine.training import SAMPLE_SECONDS
from mlxft.runs import events as ev
from mlxft.runs.journal import JournalWriter
from mlxft.telemetry.apple import IOREG, SYSCTL, THERMAL, VM_STAT, Apple, Command, outputs
from mlxft.telemetry.host import resident_memory
from mlxft.telemetry.sampler import Sampler, Source, machine_sources

SAMPLES = Path(__file__).parents[1] / "tests" / "unit" / "telemetry" / "samples"
LEGEND = 45_000
"""Characters of the legend in real ``ioreg`` output, which the small sample lacks."""


def processor_seconds() -> float:
    """CPU time of this process and of its finished children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def fake_tools(folder: Path) -> dict[Command, Command]:
    """A command with the same output for each macOS tool, whose own cost can't be measured here."""
    printed = {
        IOREG: (SAMPLES / "ioreg.txt").read_text() + f'"IOReportLegend" = ({"x" * LEGEND})\n',
        VM_STAT: (SAMPLES / "vm_stat.txt").read_text(),
        SYSCTL: (SAMPLES / "sysctl.txt").read_text(),
        THERMAL: (SAMPLES / "notifyutil.txt").read_text(),
    }
    for number, text in enumerate(printed.values()):
        (folder / str(number)).write_text(text)
    return {tool: ("/bin/cat", str(folder / str(at))) for at, tool in enumerate(printed)}


def cost(sample: Callable[[], object], repeats: int) -> dict[str, float]:
    """Milliseconds per sample, and the share of a core at the engine's interval."""
    sample()
    times = []
    before = processor_seconds()
    for _ in range(repeats):
        started = time.perf_counter()
        sample()
        times.append(time.perf_counter() - started)
    used = (processor_seconds() - before) / repeats
    return {
        "wall_ms": round(1000 * statistics.median(times), 3),
        "processor_ms": round(1000 * used, 3),
        "share_of_a_core": round(used / SAMPLE_SECONDS, 6),
    }


def measure(folder: Path, repeats: int) -> dict[str, dict[str, float]]:
    """Each source of this machine, a Mac's with fake tools, and a complete sample."""
    found = {type(each).__name__.lower(): cost(each.read, repeats) for each in machine_sources()}
    if sys.platform != "darwin":
        tools = fake_tools(folder)
        mac: Source = Apple(lambda commands: outputs([tools[each] for each in commands]))
        found["apple, with fake tools"] = cost(mac.read, repeats)
    sampler, journal = Sampler(), JournalWriter(folder / "events.jsonl")

    def whole() -> None:
        event = ev.MachineSampled(sample=sampler.sample(), resident_memory=resident_memory())
        journal.append(event)

    found["complete sample, with journal"] = cost(whole, repeats)
    sampler.close()
    journal.close()
    return found


def main() -> None:
    """Print the figures, as one JSON line with ``--json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    parser.add_argument("--repeats", type=int, default=200, help="samples per source")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mlxft-") as folder:
        found = measure(Path(folder), options.repeats)
    if options.json:
        print(json.dumps(found))
        return
    for name, figures in found.items():
        print(f"{name:32} " + "  ".join(f"{key} {value:g}" for key, value in figures.items()))


if __name__ == "__main__":
    main()
