#!/usr/bin/env bash
# The mlx-cpu wheel multiplies matrices with the reference BLAS, many times slower than numpy.
# This project: its cpu extra brings OpenBLAS, which engine processes find first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    "mlx[cpu]==0.32.4" numpy==2.3.5
cd "$folder"
venv/bin/python - <<'EOF'
import sys
import time
from pathlib import Path

import mlx.core as mx
import numpy as np

SIZE = 1024


def fastest(product):
    """The least seconds of five products."""
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        product()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


values = np.random.default_rng(0).normal(size=(SIZE, SIZE)).astype(np.float32)
array = mx.array(values)
with mx.stream(mx.cpu):
    of_mlx = fastest(lambda: mx.eval(array @ array))
of_numpy = fastest(lambda: values @ values)
packages = Path(mx.__file__).parents[1]
blas = sorted(each.name for each in packages.glob("mlx_cpu.libs/lib*blas*"))
operations = 2 * SIZE**3 / 1e9
print(f"mlx 0.32.4 on a Linux CPU, float32 product of two {SIZE} x {SIZE} matrices")
print("expected: about numpy's speed")
print(f"seen:     {operations / of_mlx:.1f} against {operations / of_numpy:.1f} GFLOP/s; {blas}")
sys.exit(not (of_mlx > 3 * of_numpy and not any("openblas" in each for each in blas)))
EOF
