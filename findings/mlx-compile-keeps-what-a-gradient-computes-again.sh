#!/usr/bin/env bash
# A gradient that computes values again to save memory saves none in a compiled function: MLX finds
# that the forward pass computes the same ones, and keeps them. Needs a C++ compiler, as mx.compile
# does on a CPU.
# This project: what such a gradient reads depends on the gradient it is given (mx.depends).
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

ROWS, HIDDEN, WIDE, LAYERS = 2048, 16, 1024, 8
inside, outside = mx.random.normal((HIDDEN, WIDE)), mx.random.normal((WIDE, HIDDEN))
x = mx.random.normal((ROWS, HIDDEN))
mx.eval(inside, outside, x)


def layer_with(changed):
    """x → (ROWS, HIDDEN), whose gradient computes the (ROWS, WIDE) values again."""

    @mx.custom_function
    def layer(x):
        return mx.tanh(x @ inside) @ outside

    @layer.vjp
    def gradient(x, cotangent, _):
        wide = mx.tanh(changed(x, cotangent) @ inside)
        return ((cotangent @ outside.T) * (1 - wide * wide)) @ inside.T

    return layer


def held(compiled, changed):
    """How many wide arrays the gradient of all layers takes at most, one operation at a time."""
    layer = layer_with(changed)

    def loss(x):
        for _ in range(LAYERS):
            x = layer(x)
        return x.sum()

    step = mx.compile(mx.grad(loss)) if compiled else mx.grad(loss)
    mx.eval(step(x))
    mx.synchronize()
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    mx.eval(step(x))
    mx.synchronize()
    return (mx.get_peak_memory() - before) / (4 * ROWS * WIDE)


def as_given(x, _):
    return x


def after(x, cotangent):
    return mx.depends([x], [cotangent])[0]


with mx.stream(mx.cpu):
    mx.set_memory_limit(1)
    counts = held(False, as_given), held(True, as_given), held(True, after)
print("mlx 0.32.4, the gradient of 8 layers, each of which computes a wide array again for it")
print("expected: as many wide arrays at once whether the function is compiled or not")
print(f"seen:     {counts[0]:.1f} as it is, {counts[1]:.1f} compiled;")
print(f"          {counts[2]:.1f} compiled where the input depends on the cotangent")
sys.exit(not (counts[1] > counts[0] + 4 and counts[2] < counts[0] + 1))
EOF
