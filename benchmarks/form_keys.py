"""Time from a key to the repainted recipe form: each row is visited and stepped both ways.

The application runs in its own terminal on a small project, with a model's config.json, so that
memory, time and advice are recomputed at each key. Values that can't be stepped are skipped, and
keys that change nothing on the form (a step beyond the range) are not counted. The time of a single
estimate, for a model with 126 blocks, is measured too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from figures import print_figures
from mlxft.memory.estimator import estimate
from mlxft.memory.shapes import ModelShapes
from mlxft.recipe import Recipe
from mlxft_tui.recipe.form import ROWS
from support.terminal import Terminal

APP = [sys.executable, "-m", "mlxft_tui.cli"]
FORM_CELLS = 60
"""The form's columns in this terminal."""

STEPPED = [each.parameter.steppable for each in ROWS if each.parameter]
"""Whether left and right change each parameter of the form, in order."""

WALK = [key for steps in STEPPED for key in (("l", "h", "j") if steps else ("j",))]
"""The keys of a walk from the first parameter to the last."""

REPAINT_SECONDS = 0.25
"""How long to wait for a change before a key counts as one that changes nothing."""


def project(folder: Path) -> None:
    """Write records, and a recipe that trains the demo's model on them."""
    (folder / "data").mkdir()
    lines = (json.dumps({"text": f"Lamp {n} is on."}) for n in range(300))
    (folder / "data" / "train.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "recipe.yaml").write_text("model: demo\nnum_layers: 4\n")


def key_time(terminal: Terminal, key: str) -> float | None:
    """Milliseconds from a key to a changed form; None if nothing changes."""
    before = _form(terminal)
    terminal.send(key)
    try:
        return 1000 * terminal.wait(lambda: _form(terminal) != before, REPAINT_SECONDS)
    except (TimeoutError, AssertionError):
        return None


def _form(terminal: Terminal) -> list[str]:
    return [line[:FORM_CELLS] for line in terminal.text.splitlines()]


def measure(folder: Path, rounds: int) -> dict[str, float]:
    """Percentiles over all keys of all rounds."""
    project(folder)
    times: list[float] = []
    with Terminal([*APP, str(folder)], 120, 40, {}, folder) as terminal:
        terminal.wait_for("Data", 60)
        terminal.send("2")
        terminal.wait_for("learning_rate", 60)
        terminal.wait_for("weights", 60)
        for _ in range(rounds):
            terminal.send("g")
            for key in WALK:
                if (taken := key_time(terminal, key)) is not None:
                    times.append(taken)
                time.sleep(0.01)
    return {
        "keys": len(times),
        "key_p50_ms": round(statistics.median(times), 1),
        "key_p99_ms": round(statistics.quantiles(times, n=100)[98], 1),
        "key_worst_ms": round(max(times), 1),
    }


def estimate_times(rounds: int = 500) -> dict[str, float]:
    """Milliseconds per estimate of Llama 3.1 405B, each time with another recipe."""
    shapes = ModelShapes.from_config(
        {
            "model_type": "llama",
            "hidden_size": 16384,
            "intermediate_size": 53248,
            "num_hidden_layers": 126,
            "num_attention_heads": 128,
            "num_key_value_heads": 8,
            "vocab_size": 128256,
            "tie_word_embeddings": False,
            "quantization": {"bits": 4, "group_size": 64},
        }
    )
    times = []
    for number in range(rounds):
        recipe = Recipe(batch_size=1 + number % 32, num_layers=1 + number % 126)
        started = time.perf_counter()
        estimate(shapes, recipe, "metal", 10**11)
        times.append(1000 * (time.perf_counter() - started))
    return {
        "estimate_p50_ms": round(statistics.median(times), 3),
        "estimate_p99_ms": round(statistics.quantiles(times, n=100)[98], 3),
    }


def main() -> None:
    """Print the figures, as one JSON line with ``--json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    parser.add_argument("--rounds", type=int, default=2, help="walks over the whole form")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mlxft-") as folder:
        figures = {**measure(Path(folder), options.rounds), **estimate_times()}
    print_figures(figures, as_json=options.json)


if __name__ == "__main__":
    main()
