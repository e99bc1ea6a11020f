"""Kills runs with SIGKILL at random moments, also while they save, and resumes them.

Each trains a tiny random model in its own engine process, with dropout, accumulation, a schedule
and validation, and must end with exactly the adapter of an undisturbed run. ``--json`` prints one
line: runs, identical, how many were killed while saving, and how many had no checkpoint yet.
``--family`` trains a tiny model of another family, ``--packed`` rows of several records.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.project import make_project
from support.training import Killed, killed, undisturbed

PACKED = ("packing=true", "max_seq_length=96")


def kill_and_resume(
    runs: int, seed: int, quiet: bool, family: str | None, packed: bool
) -> list[Killed]:
    """Kill and resume this many runs, each once."""
    random, more = Random(seed), PACKED if packed else ()
    found: list[Killed] = []
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        # Runs of other projects on this machine don't matter.
        os.environ["MLXFT_RUNTIME"] = f"{folder}/r"
        os.environ["MLXFT_STATE"] = f"{folder}/state"
        os.environ["MLXFT_PEAKS"] = f"{folder}/peaks.jsonl"
        project = make_project(Path(folder) / "project")
        if family is not None:
            # Writing a family's model needs MLX, which the others don't.
            from support.families import make_family

            make_family(Path(folder) / "project" / "model", family)
        expected, seconds = undisturbed(project, *more)
        while len(found) < runs:
            run = killed(project, random, expected, seconds, *more)
            if run is None:
                continue
            found.append(run)
            if not quiet:
                where = "while saving" if run.saving else "between"
                verdict = "identical" if run.identical else "DIFFERENT"
                print(
                    f"{len(found):3}  killed at step {run.step:3} {where:12}  "
                    f"resumed from {run.resumed_from:3}  {verdict}",
                    flush=True,
                )
    return found


def main() -> None:
    """Kill, resume and compare; exits with 1 if any adapter differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print only the line of JSON")
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--family", help="a model_type, by default llama")
    parser.add_argument("--packed", action="store_true", help="rows of several records")
    arguments = parser.parse_args()
    found = kill_and_resume(
        arguments.runs, arguments.seed, arguments.json, arguments.family, arguments.packed
    )
    identical = sum(run.identical for run in found)
    result = {
        "runs": len(found),
        "identical": identical,
        "while_saving": sum(run.saving for run in found),
        "without_checkpoint": sum(run.resumed_from == 0 for run in found),
    }
    print(json.dumps(result))
    sys.exit(identical != len(found))


if __name__ == "__main__":
    main()
