#!/usr/bin/env bash
# In MLX the vjp of a custom_function with one input gets the array itself, with more a tuple of them.
# This project: compute/training/gradient_checkpointing.py puts the only input of a frozen block into a list.
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

seen = {}


def total(count):
    function = mx.custom_function(lambda *inputs: sum(inputs).sum())

    @function.vjp
    def backward(inputs, cotangent, output):
        seen[count] = (type(inputs).__name__, len(inputs))
        return tuple(mx.ones((2, 3)) for _ in range(count))

    return function


print("mlx 0.32.4, custom functions of one and of two arrays of shape (2, 3)")
print("expected: the vjp of a function of *inputs gets a sequence of its inputs")
mx.eval(mx.grad(lambda x: total(1)(x))(mx.ones((2, 3))))
mx.eval(mx.grad(lambda x: total(2)(x, x))(mx.ones((2, 3))))
for count, (kind, length) in seen.items():
    print(f"seen:     {count} input(s): {kind} of length {length}")
sys.exit(seen != {1: ("array", 2), 2: ("tuple", 2)})
EOF
