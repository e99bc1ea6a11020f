"""What opening, browsing and checking a file of a million records costs.

The application runs in its own terminal on a small project, then opens the large file. Keys are
timed from press to paint while the file is counted and checked; memory is the peak of the
application and its checking child processes together.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.terminal import Terminal

APP = [sys.executable, "-m", "mlxft_tui.cli"]
SERVICE = "mlxft.engine"
"""Identifies the model service, which opens no model here and is not counted."""

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


def opening(terminal: Terminal, folder: Path) -> float:
    """Seconds from opening the folder to its first record on screen."""
    terminal.send("o")
    terminal.wait_for("esc Cancel")
    terminal.send(str(folder))
    terminal.wait_for(str(folder))
    terminal.send("\r")
    return terminal.wait(lambda: "record 0 " in terminal.text)


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


def measure(folder: Path, count: int) -> dict[str, float]:
    """Run the benchmark and return its results."""
    large, small = folder / "large", folder / "small" / "data"
    write_records(large / "train.jsonl", count)
    write_records(small / "train.jsonl", 3, "small")
    with Terminal([*APP, str(small.parent)], 120, 40) as terminal:
        memory = Memory(terminal.process.pid)
        terminal.wait(lambda: _is_checked(terminal.text))
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
        "first_paint_s": round(first_paint, 3),
        "jump_s": round(jumped, 3),
        "jumped_unindexed": unindexed,
        "check_s": round(check, 1),
        "rss_mb": round(memory.highest / 1e6),
        "key_p50_ms": round(statistics.median(keys), 1),
        "key_p99_ms": round(statistics.quantiles(keys, n=100)[98], 1),
        "keys": len(keys),
    }


def main() -> None:
    """Print the figures, as one JSON line with ``--json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    parser.add_argument("--records", type=int, default=1_000_000, help="records in the file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mlxft-", dir="/tmp") as folder:
        for name in ("CACHE", "RUNTIME", "LOGS"):
            os.environ[f"MLXFT_{name}"] = f"{folder}/{name.lower()}"
        os.environ["HOME"] = folder
        figures = measure(Path(folder), options.records)
    if options.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:18} {value:g}")


if __name__ == "__main__":
    main()
