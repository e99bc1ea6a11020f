#!/usr/bin/env bash
# The norm of many arrays takes the memory of all their squares: MLX computes every square before
# it sums the first one, as long as there are few enough of them.
# This project: counts them in its estimate of memory, where gradients are accumulated on a CPU.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    "mlx[cpu]==0.32.4"
cd "$folder"
venv/bin/python - <<'EOF'
import sys

import mlx.core as mx

VALUES = 2**20
arrays = [mx.full((VALUES,), float(each)) for each in range(20)]
mx.eval(arrays)


def together():
    """The sum of all squares as one computation."""
    mx.eval(mx.stack([each.square().sum() for each in arrays]).sum())


def in_turn():
    """The same sums, each computed before the next one."""
    sums = []
    for each in arrays:
        sums.append(each.square().sum())
        mx.eval(sums[-1])
    mx.eval(mx.stack(sums).sum())


def held(compute):
    """How many arrays' worth of memory a computation takes at most."""
    mx.clear_cache()
    mx.synchronize()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    compute()
    mx.synchronize()
    return (mx.get_peak_memory() - before) / arrays[0].nbytes


with mx.stream(mx.cpu):
    counts = held(together), held(in_turn)
print("mlx 0.32.4, the sum of the squares of 20 arrays; a square is needed until it is summed")
print("expected: one or two squares at once, either way")
print(f"seen:     as one computation {counts[0]:.1f} squares at once, in turn {counts[1]:.1f}")
sys.exit(not (counts[0] > 19 and counts[1] < 2))
EOF
