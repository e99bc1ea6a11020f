#!/usr/bin/env bash
# In MLX each new thread draws the same random numbers, whatever the seed of the main thread.
# This project: derives the key of each step and the seed of each answered token from a fixed seed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    "mlx[cpu]==0.32.4"
cd "$folder"
venv/bin/python - <<'EOF'
import sys
from concurrent.futures import ThreadPoolExecutor

import mlx.core as mx


def draw():
    return mx.random.randint(0, 1000, (6,)).tolist()


def draw_and_close():
    numbers = draw()
    mx.synchronize()
    mx.clear_streams()  # else the process may abort at its end
    return numbers


def in_new_thread():
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(draw_and_close).result()


drawn = []
print("mlx 0.32.4, six random numbers each")
print("expected: mx.random.seed seeds the global PRNG, so two threads draw different numbers,")
print("          and another seed changes them")
for seed in (1, 2):
    mx.random.seed(seed)
    drawn.append((draw(), in_new_thread(), in_new_thread()))
    print(f"seen:     seed {seed}: main thread {drawn[-1][0]}")
    print(f"          new threads {drawn[-1][1]} and {drawn[-1][2]}")
(main, first, second), (other_main, third, fourth) = drawn
sys.exit(not (main != other_main and first == second == third == fourth))
EOF
