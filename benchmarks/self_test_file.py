"""What a self-test's file teaches the estimator: each peak's error before and after.

``self_test_file.py FILE`` reads what ``mlxft-tui doctor --self-test`` writes, on any machine. A
peak never corrects its own estimate. ``--json`` prints one line; ``--keep`` adds the peaks to those
that correct this machine's estimates, which makes sense for a machine of the same kind only.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import msgspec

from mlxft.memory.calibration import MeasuredPeak, remember
from mlxft.self_test.calibration import calibrated, summary


def main() -> None:
    """Print the errors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--keep", action="store_true", help="keep the peaks on this machine")
    arguments = parser.parse_args()
    found = json.loads(arguments.file.read_text())
    peaks = msgspec.convert(found["peaks"], list[MeasuredPeak])
    errors = calibrated(peaks)
    if arguments.keep:
        for each in peaks:
            remember(each)
    if arguments.json:
        rows = [msgspec.to_builtins(each) for each in errors]
        print(json.dumps({"device": found["device"], "errors": rows}))
        return
    for error in errors:
        print(f"{error.run:55} {error.before:+7.1%} → {error.after:+7.1%}")
    print(summary(errors))


if __name__ == "__main__":
    main()
