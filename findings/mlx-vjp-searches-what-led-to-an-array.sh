#!/usr/bin/env bash
# A gradient takes longer to build the more operations led to any array that its function reads,
# though no gradient by that array is wanted: mx.vjp goes through all of them. Steps that recompute
# each block in a gradient of its own grow quadratically with the blocks.
# This project: gives such arrays to mx.vjp as further arguments, whose gradients are stopped.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    "mlx[cpu]==0.32.4"
cd "$folder"
venv/bin/python - <<'EOF'
import statistics
import sys
import time

import mlx.core as mx


def after(operations):
    """An array that so many operations lead to, none of them computed."""
    x = mx.zeros(1)
    for _ in range(operations):
        x = x + 1
    return x


def microseconds(build):
    """To build a gradient, without computing anything."""
    times = []
    for _ in range(9):
        began = time.perf_counter()
        build()
        times.append(1e6 * (time.perf_counter() - began))
    return statistics.median(times)


def read(array):
    """The gradient by y of a product that reads an array."""
    return lambda: mx.vjp(lambda y: y * array, [mx.ones(1)], [mx.ones(1)])


def given(array):
    """The same, with the array as an argument."""

    def function(y, z):
        return y * mx.stop_gradient(z)

    return lambda: mx.vjp(function, [mx.ones(1), array], [mx.ones(1)])


with mx.stream(mx.cpu):
    short, long = after(1), after(10_000)
    times = [microseconds(way(array)) for way in (read, given) for array in (short, long)]
print("mlx 0.32.4, building the gradient of y * x by y, where 1 or 10,000 operations led to x")
print("expected: the same time, since no gradient by x is wanted")
print(f"seen:     {times[0]:.0f} and {times[1]:.0f} µs where the function reads x,")
print(f"          {times[2]:.0f} and {times[3]:.0f} µs where it is given x and stops its gradient")
sys.exit(not (times[1] > 20 * times[0] and times[3] < 10 * times[2]))
EOF
