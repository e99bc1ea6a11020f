"""Train the demo for five steps and keep what this machine showed: ``machine_check.py FOLDER``.

Writes events.jsonl, stderr.txt and summary.json into the folder. Exits with an error if the run
fails, or if a Mac doesn't train on Metal or shows no GPU memory.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

STEPS = "5"


def main(folder: Path) -> int:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "mlxft_tui.cli", "demo", "--json", "--iters", STEPS]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    (folder / "events.jsonl").write_text(done.stdout)
    (folder / "stderr.txt").write_text(done.stderr)
    summary = summarize([json.loads(line) for line in done.stdout.splitlines()])
    summary |= {"exit": done.returncode, "platform": platform.platform()}
    text = json.dumps(summary, indent=1)
    (folder / "summary.json").write_text(f"{text}\n")
    print(text, done.stderr, sep="\n", end="")
    return 0 if done.returncode == 0 and is_plausible(summary) else 1


def summarize(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Backend, result and peak of a run, and every gauge that showed a figure."""
    gauges: dict[str, Any] = {}
    for event in of_kind(events, "machine_sampled"):
        gauges |= {name: value for name, value in event["sample"].items() if value is not None}
    return {
        "backend": next(of_kind(events, "backend_ready"), None),
        "result": next(of_kind(events, "run_finished"), None),
        "gauges": gauges,
    }


def of_kind(events: list[dict[str, Any]], kind: str) -> Any:
    return (event for event in events if event["event"] == kind)


def is_plausible(summary: dict[str, Any]) -> bool:
    """Whether the peak is known, and on a Mac whether Metal trained and the gauges work."""
    if not summary["backend"] or not (summary["result"] or {}).get("peak_memory"):
        return False
    on_metal = summary["backend"]["kind"] == "metal" and "memory_wired" in summary["gauges"]
    return platform.system() != "Darwin" or on_metal


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
