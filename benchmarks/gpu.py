"""Everything that is measured on an NVIDIA GPU, in one go and within a time limit.

The cheapest and most decisive cases come first, each with a limit of its own. A case that fails or
takes too long is reported like any other, and the next one starts. Prints a line of JSON for each
case as soon as it ends: its command, seconds, the lines that it printed, what is expected of them,
and whether each of that is met. Cases that no longer fit into ``--minutes`` are named in the last
line.

    python benchmarks/gpu.py --minutes 25 --against CHECKOUT --out gpu.jsonl

``--against`` is another checkout, for the cases that compare with an earlier trainer. A Python with
torch, transformers and peft can be named by ``--peft-python``.
"""

from __future__ import annotations

import argparse
import json
import operator
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {">=": operator.ge, "<=": operator.le}


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A script and its arguments, the seconds it may take, and what each of its lines must show.

    Expectations are written `name >= number`; names are those of a line, dotted inside. `against`
    adds the other checkout, `peft` the Python that has it.
    """

    name: str
    script: str
    arguments: str
    seconds: int
    expected: tuple[str, ...] = ()
    against: bool = False
    peft: bool = False


_STEP = "--json --gpu --layers 16 --batch 4 --length 2048 --slice-tokens 40000"
_REAL = "--json --gpu --layers 16 --batch 4 --checkpoint --slice-tokens 40000 --slices 2"
_MEMORY = "--json --shape 1b --layers 4 --lengths 1000 1900 7900 15900"
_PEFT = "--json --layers 16 --batch 4 --length 2048"
_TRAINER = "train_vs_mlx_lm.py"

CASES = (
    Measurement(
        name="3b 4-bit",
        script=_TRAINER,
        arguments=f"{_STEP} --shape 3b --bits 4 --checkpoint --slices 2",
        seconds=240,
        expected=("throughput_ratio >= 2.4", "peak_ratio <= 0.18"),
    ),
    Measurement(
        name="products",
        script="products.py",
        arguments="--json",
        seconds=90,
    ),
    Measurement(
        name="delta nets",
        script="delta_nets.py",
        arguments="--gpu --json",
        seconds=150,
        expected=("tokens_per_second >= 16000", "peak <= 6e9", "first_step <= 60"),
    ),
    Measurement(
        name="delta nets, compiled",
        script="delta_nets.py",
        arguments="--gpu --json --compile always",
        seconds=400,
        expected=("tokens_per_second >= 16000", "peak <= 6e9"),
    ),
    Measurement(
        name="delta nets, kernels made beside the run",
        script="delta_nets.py",
        arguments="--gpu --made",
        seconds=520,
        expected=("first_step <= 60", "tokens_per_second_after >= 16000", "peak <= 6e9"),
    ),
    Measurement(
        name="3b 4-bit against peft",
        script="train_vs_peft.py",
        arguments=f"{_PEFT} --shape 3b --bits 4",
        seconds=180,
        expected=("throughput_ratio >= 1.45", "peak_ratio <= 0.25"),
        peft=True,
    ),
    Measurement(
        name="long records against before",
        script=_TRAINER,
        arguments=f"{_REAL} --shape 3b --bits 4 --records long",
        seconds=300,
        expected=("throughput_ratio >= 1.6", "peak_ratio <= 1.0"),
        against=True,
    ),
    Measurement(
        name="short records against before",
        script=_TRAINER,
        arguments=f"{_REAL} --shape 3b --bits 4 --records short",
        seconds=300,
        expected=("throughput_ratio >= 1.6", "peak_ratio <= 1.0"),
        against=True,
    ),
    Measurement(
        name="1b bfloat16",
        script=_TRAINER,
        arguments=f"{_STEP} --shape 1b --checkpoint --slices 2",
        seconds=120,
        expected=("throughput_ratio >= 1.35",),
    ),
    Measurement(
        name="1b bfloat16 against peft",
        script="train_vs_peft.py",
        arguments=f"{_PEFT} --shape 1b",
        seconds=120,
        expected=("throughput_ratio >= 1.6",),
        peft=True,
    ),
    *(
        Measurement(
            name=f"3b {name}",
            script=_TRAINER,
            arguments=f"{_STEP} --shape 3b --checkpoint --slices 1 {options}",
            seconds=150,
            expected=("throughput_ratio >= 2.2",),
        )
        for name, options in (("8-bit", "--bits 8"), ("mxfp4", "--mode mxfp4"))
    ),
    Measurement(
        name="3b 4-bit, not checkpointed",
        script=_TRAINER,
        arguments=f"{_STEP} --shape 3b --bits 4 --no-checkpoint --slices 1",
        seconds=150,
        expected=("throughput_ratio >= 2.0",),
    ),
    Measurement(
        name="3b 4-bit, not checkpointed, against before",
        script=_TRAINER,
        arguments=f"{_STEP} --shape 3b --bits 4 --no-checkpoint --slices 1",
        seconds=150,
        expected=("peak_ratio <= 1.0",),
        against=True,
    ),
    *(
        Measurement(
            name=f"memory by length, heads of {size}{', packed' if packed else ''}",
            script="memory_by_length.py",
            arguments=f"{_MEMORY} --head-dim {size} {packed}",
            seconds=120,
            expected=("growth <= 1.15",),
        )
        for packed in ("", "--packed")
        for size in (128, 256, 64, 192)
    ),
    Measurement(
        name="answers in batches",
        script="batched_answers.py",
        arguments="--json --shape 1b --max-tokens 48",
        seconds=180,
        expected=("ratio >= 8",),
    ),
    *(
        Measurement(
            name=f"long context, {case}",
            script="long_context.py",
            arguments=f"--json --cases {case} --limit 90",
            seconds=500,
        )
        for case in ("3b-4bit", "1b", "head256")
    ),
    *(
        Measurement(
            name=f"3b {name}",
            script=_TRAINER,
            arguments=f"{_STEP} --shape 3b --checkpoint --slices 1 --mode {name}",
            seconds=150,
        )
        for name in ("nvfp4", "mxfp8")
    ),
    Measurement(
        name="estimator",
        script="estimator.py",
        arguments="--json --device-grid --jobs 4 --no-fit",
        seconds=600,
        expected=("median_error <= 0.03", "worst_error <= 0.10", "worst_under >= -0.04"),
    ),
)
"""In the order in which they run."""


def run(case: Measurement, seconds: float, arguments: argparse.Namespace) -> dict[str, Any]:
    """The case's line; nothing that its process does ends this one."""
    command = [sys.executable, str(HERE / case.script), *case.arguments.split()]
    if case.against:
        command += ["--against", str(arguments.against)]
    if case.peft and arguments.peft_python:
        command += ["--peft-python", arguments.peft_python]
    started = time.monotonic()
    # A session of its own, so that what it has started ends with it.
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        failed = None
        try:
            output, errors = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, errors = process.communicate()
            failed = f"not done after {seconds:.0f} s"
    if failed is None and process.returncode:
        last = [each for each in errors.splitlines() if each.strip()]
        failed = f"exit code {process.returncode}: {last[-1][:300] if last else ''}"
    results = json_lines(output)
    return {
        "case": case.name,
        "command": " ".join(["python", f"benchmarks/{case.script}", *command[2:]]),
        "seconds": round(time.monotonic() - started, 1),
        "failed": failed,
        "expected": verdicts(case.expected, results),
        "results": results,
    }


def json_lines(text: str) -> list[dict[str, Any]]:
    """The objects that a script has printed, one a line."""
    found = []
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def verdicts(expected: tuple[str, ...], results: list[dict[str, Any]]) -> dict[str, bool | None]:
    """Whether every line meets each expectation; None where nothing was measured."""
    met: dict[str, bool | None] = {}
    for each in expected:
        name, sign, number = each.split()
        values = [line[name] for line in results if line.get(name) is not None]
        compare = _COMPARISONS[sign]
        met[each] = all(compare(value, float(number)) for value in values) if values else None
    return met


def main() -> None:
    """Run the cases that fit into the time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--against", type=Path, help="a checkout of an earlier trainer")
    parser.add_argument("--peft-python", help="a Python with torch, transformers and peft")
    parser.add_argument("--only", nargs="+", default=[""], help="parts of cases' names")
    parser.add_argument("--out", type=Path, help="also append the lines to this file")
    parser.add_argument("--list", action="store_true", help="only name the cases")
    arguments = parser.parse_args()
    wanted = [each for each in CASES if any(part in each.name for part in arguments.only)]
    if arguments.list:
        print("\n".join(each.name for each in wanted))
        return
    end, left_out = time.monotonic() + 60 * arguments.minutes, []
    for case in wanted:
        seconds = min(case.seconds, end - time.monotonic())
        if seconds < case.seconds / 3 or (case.against and arguments.against is None):
            left_out.append(case.name)
            continue
        tell(run(case, seconds, arguments), arguments.out)
    tell({"left_out": left_out}, arguments.out)


def tell(line: dict[str, Any], file: Path | None) -> None:
    """Print a line of JSON at once, and append it to the file."""
    text = json.dumps(line)
    print(text, flush=True)
    if file is not None:
        with file.open("a") as opened:
            opened.write(text + "\n")


if __name__ == "__main__":
    main()
