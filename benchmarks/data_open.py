"""What opening, browsing and checking a file of a million records costs.

The application runs in its own terminal on a small project, then opens the large file. Keys are
timed from press to paint while the file is counted and checked; memory is the peak of the
application and its checking child processes together. ``--against`` compares with another checkout
and its own `.venv`: both open the same file, in turns.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.terminal import Terminal

SERVICE = "mlxft.engine"
"""Identifies the model service, which opens no model here and is not counted."""

PAINTED_BYTES = 1500
"""Bytes after which the first screen counts as painted."""

TEXT = (
    "turn the lamp in kitchen on off garden please what why how many columns table record select "
    "notes series began colour state territory slogan answer question because therefore model"
)


def write_records(path: Path, count: int, name: str = "record") -> None:
    """Prompt-completion records of about a kilobyte, each with its number."""
    chance = random.Random(0)
    words = TEXT.split()
    texts = [" ".join(chance.choices(words, k=chance.randint(20, 150))) for _ in range(2000)]
    path.parent.mkdir(parents=True)
    with path.open("w") as file:
        for number in range(count):
            record = {
                "prompt": f"{name} {number} {chance.choice(texts)}",
                "completion": f"{chance.choice(texts)} {number}",
            }
            file.write(json.dumps(record) + "\n")


@dataclass(frozen=True)
class Build:
    """A checkout's application."""

    python: str = sys.executable
    environment: dict[str, str] = field(default_factory=dict)

    def open(self, project: Path) -> Terminal:
        """The application on a project, in a terminal and with a home folder of its own."""
        home = Path(tempfile.mkdtemp(dir=project.parent))
        folders = ("CACHE", "RUNTIME", "STATE", "LOGS", "CONFIG")
        own = {f"MLXFT_{name}": str(home / name.lower()) for name in folders}
        environment = {**self.environment, **own, "HOME": str(home)}
        command = [self.python, "-m", "mlxft_tui.cli", str(project)]
        return Terminal(command, 120, 40, environment, home)


def of_checkout(folder: Path) -> Build:
    """The application of another checkout, installed in its own `.venv`."""
    # This checkout's modules must not shadow the other one's.
    return Build(str(folder / ".venv/bin/python"), {"PYTHONPATH": ""})


class Memory:
    """Peak memory of a process and its children, sampled ten times per second."""

    def __init__(self, process: int) -> None:
        self._process = psutil.Process(process)
        self._ending = threading.Event()
        self.highest = 0

    def _watch(self) -> None:
        while not self._ending.wait(0.1):
            self.highest = max(self.highest, self._now())

    def _now(self) -> int:
        total = 0
        for each in (self._process, *self._children()):
            with contextlib.suppress(psutil.Error):
                if SERVICE not in each.cmdline():
                    total += each.memory_info().rss
        return total

    def _children(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            return self._process.children(recursive=True)
        return []

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Sample until the context ends."""
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield
        finally:
            self._ending.set()
            thread.join()


def start(terminal: Terminal) -> float:
    """Seconds from the start of the process to the first paint, once the small file is checked."""
    terminal.wait(lambda: _is_checked(terminal.text))
    size = 0
    for chunk in terminal.chunks:
        size += len(chunk.data)
        if size >= PAINTED_BYTES:
            return chunk.time - terminal.started
    raise AssertionError("nothing was painted")


def opening(terminal: Terminal, folder: Path) -> float:
    """Seconds from opening the folder to its first record on screen."""
    terminal.send("o")
    terminal.wait(lambda: "esc Cancel" in terminal.text or "esc Back" in terminal.text)
    terminal.send(str(folder))
    terminal.wait_for(str(folder))
    terminal.send("\r")
    # The figures of the small file may be there for another moment.
    return terminal.wait(lambda: "record 0 " in (text := terminal.text) and not _is_checked(text))


def jump(terminal: Terminal, count: int) -> tuple[float, bool]:
    """Seconds from the key to the last record on screen, and whether its number was estimated."""
    terminal.send("G")
    seconds = terminal.wait(lambda: f"record {count - 1} " in terminal.text)
    return seconds, "~" in terminal.text


def move_until_checked(terminal: Terminal, started: float) -> tuple[float, list[float]]:
    """Seconds the check took, and milliseconds from each key press to its paint."""
    times: list[float] = []
    while not _is_checked(terminal.text):
        before = _cursor_line(terminal)
        terminal.send("k" if len(times) % 40 < 20 else "j")
        seconds = terminal.wait(lambda line=before: _cursor_line(terminal) != line, 10)  # type: ignore[misc]
        times.append(1000 * seconds)
        time.sleep(0.04)
    return time.monotonic() - started, times


def _cursor_line(terminal: Terminal) -> str:
    return next((line[:20] for line in terminal.text.splitlines() if "│›" in line[:3]), "")


def _is_checked(text: str) -> bool:
    return "median" in text


def measure(build: Build, large: Path, count: int) -> dict[str, float]:
    """Run the benchmark and return its results."""
    # A project of its own: the application saves which data it opened.
    small = Path(tempfile.mkdtemp(dir=large.parent), "small")
    write_records(small / "data" / "train.jsonl", 3, "small")
    with build.open(small) as terminal:
        started_in = start(terminal)
        memory = Memory(terminal.process.pid)
        with memory.watched():
            first_paint = opening(terminal, large)
            started = time.monotonic() - first_paint
            jumped, unindexed = jump(terminal, count)
            check, keys = move_until_checked(terminal, started)
        terminal.send("q")
        terminal.exit_code()
    return {
        "records": count,
        "megabytes": round((large / "train.jsonl").stat().st_size / 1e6),
        "start_s": round(started_in, 3),
        "first_paint_s": round(first_paint, 3),
        "jump_s": round(jumped, 3),
        "jumped_unindexed": unindexed,
        "check_s": round(check, 1),
        "rss_mb": round(memory.highest / 1e6),
        "key_p50_ms": round(statistics.median(keys), 1),
        "key_p99_ms": round(statistics.quantiles(keys, n=100)[98], 1),
        "key_max_ms": round(max(keys), 1),
        "keys": len(keys),
    }


def main() -> None:
    """Print the figures of each run, as JSON lines with ``--json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON lines")
    parser.add_argument("--records", type=int, default=1_000_000, help="records in the file")
    parser.add_argument("--against", type=Path, help="another checkout, with its own .venv")
    parser.add_argument("--turns", type=int, default=1, help="runs of each checkout")
    options = parser.parse_args()
    # The thread that reads the terminal must note the time at once, whatever others draw.
    sys.setswitchinterval(0.0002)
    builds = {"here": Build()}
    if options.against:
        builds = {str(options.against): of_checkout(options.against), **builds}
    with tempfile.TemporaryDirectory(prefix="mlxft-", dir="/tmp") as folder:
        large = Path(folder, "large")
        write_records(large / "train.jsonl", options.records)
        for name in [*builds] * options.turns:
            figures = measure(builds[name], large, options.records)
            show(name, figures, as_json=options.json)


def show(name: str, figures: dict[str, float], *, as_json: bool) -> None:
    """Print the figures of one run."""
    if as_json:
        print(json.dumps({"checkout": name, **figures}), flush=True)
        return
    print(name)
    for key, value in figures.items():
        print(f"  {key:18} {value:g}", flush=True)


if __name__ == "__main__":
    main()
